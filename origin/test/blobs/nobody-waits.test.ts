import { digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import type { BlobName } from '@sepia/base/names/blob-name';
import { parseRepositoryName } from '@sepia/base/names/repository';
import t from 'tap';
import { Uploads } from '../../src/blobs/uploads.ts';

const BYTES = Buffer.from('a blob');
const NAME: BlobName = {
  upstream: 'up',
  repository: parseRepositoryName('team/app'),
  digest: digestOf(BYTES),
};

/** An origin's uploads; `at` is told each step that is taken, and may stop the world there. */
function uploadsWith(at: (step: 'commit' | 'ride' | 'place' | 'link') => void): Uploads {
  const file = {
    offset: BYTES.length,
    append: async () => undefined,
    commit: async () => {
      at('commit');
      return { sizeBytes: BYTES.length, attrs: { class: 'pushed', provenance: [] }, bytes: BYTES };
    },
    drop: async () => undefined,
  };
  return new Uploads(
    {
      selfId: 'o1',
      store: { createUpload: async () => file } as never,
      links: { ride: () => at('ride'), write: async () => at('link') } as never,
      quotas: { limitsOf: () => undefined, hold: async () => undefined, release: () => undefined },
      replicator: {
        hold: async (_digest: unknown, work: () => Promise<unknown>) => await work(),
        owe: async () => undefined,
        place: async () => at('place'),
      } as never,
      guard: { writing: async (_digest: unknown, work: () => Promise<unknown>) => await work() } as never,
      upstreams: { get: () => ({ mode: 'none' }) } as never,
      room: { check: () => undefined, require: () => undefined },
      log: silentLogger(),
      nowMs: () => 0,
    },
    { places: { all: 8, perClient: 8 }, idleMs: 60_000, maxBlobBytes: 1024 },
  );
}

for (const [leaves, taken] of [
  [undefined, ['commit', 'ride', 'place', 'link']],
  ['commit', ['commit']],
  ['place', ['commit', 'ride', 'place']],
] as const)
  t.test(`a blob whose pusher is gone after ${leaves ?? 'nothing'} is not linked`, async (t) => {
    const gone = new AbortController();
    const steps: string[] = [];
    const uploads = uploadsWith((step) => {
      steps.push(step);
      if (step === leaves) gone.abort(new CodedError('TIMEOUT'));
    });
    t.teardown(() => uploads.stop());
    const body = async function* (): AsyncGenerator<Uint8Array> {
      yield BYTES;
    };
    const put = uploads.putWhole(NAME, body(), BYTES.length, { client: 'c', signal: gone.signal });
    if (leaves === undefined) t.same(await put, { sizeBytes: BYTES.length });
    else await t.rejects(put, { code: 'TIMEOUT' });
    t.same(steps, taken);
  });
