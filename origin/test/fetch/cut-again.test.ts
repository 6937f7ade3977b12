import type { BlobSource } from '@sepia/backend/blob-backend';
import { digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import { parseRepositoryName } from '@sepia/base/names/repository';
import { BlobStore } from '@sepia/store/blob-store';
import { diskFiles } from '@sepia/store/files/disk-files';
import { bytesOf } from '@sepia/test-support/seeded';
import type { BlobStream } from '@sepia/upstream/queries';
import t, { type Test } from 'tap';
import { Fetch } from '../../src/fetch/fetch.ts';

const ignore = (): void => undefined;

/** The bytes before `cut`, and then an upstream that is gone. */
function streamOf(bytes: Uint8Array, cut: number): BlobStream {
  async function* chunks(): AsyncGenerator<Uint8Array, void, undefined> {
    for (let at = 0; at < cut; at += 65_536) yield bytes.slice(at, Math.min(cut, at + 65_536));
    if (cut < bytes.length) throw new CodedError('BACKEND_DOWN', { message: 'reset' });
  }
  return { isEncoded: false, lent: chunks, [Symbol.asyncIterator]: chunks, destroy: ignore };
}

/** Each answer is cut after `share` of what was asked. */
function cutting(
  blob: Uint8Array,
  share: number,
  honoursRange: boolean,
): { source: BlobSource; asked: number[] } {
  const asked: number[] = [];
  const source: BlobSource = {
    headBlob: async () => ({ sizeBytes: blob.length }),
    getBlob: async ({ range }) => {
      const start = honoursRange ? (range?.start ?? 0) : 0;
      asked.push(start);
      const bytes = blob.subarray(start);
      const body = streamOf(bytes, Math.ceil(bytes.length * share));
      return { status: start > 0 ? 'partial' : 'whole', start, sizeBytes: blob.length, body };
    },
  };
  return { source, asked };
}

/** A fetch whose clock stands still: whatever it would wait for never comes. */
async function fetchOf(t: Test, blob: Uint8Array, source: BlobSource): Promise<Fetch> {
  const log = silentLogger();
  const deps = { dir: t.testdir(), log, nowMs: () => 0, files: diskFiles };
  const store = await BlobStore.open(deps, { durable: false, budgetBytes: 1e9 });
  const events = { started: ignore, landed: ignore, restarted: ignore, ended: ignore };
  const fetch = new Fetch(
    {
      store,
      client: source,
      room: { require: ignore },
      log,
      nowMs: () => 0,
      events,
      onUpstreamBytes: ignore,
    },
    { upstream: 'hub', repository: parseRepositoryName('lib/x'), digest: digestOf(blob) },
    { sizeHint: undefined, wantAll: true, progressMs: 10_000, firstByteMs: 10_000, lingerMs: 10_000 },
  );
  t.teardown(async () => {
    fetch.stop();
    await store.close();
  });
  return fetch;
}

t.test('a blob whose every connection is cut at 40 % is whole without a pause', async (t) => {
  const blob = bytesOf(3_300_000, 7);
  const { source, asked } = cutting(blob, 0.4, true);
  const fetch = await fetchOf(t, blob, source);
  fetch.start();
  await fetch.whenFinal(AbortSignal.timeout(20_000));
  t.equal(fetch.state, 'final');
  t.ok(asked.length > 20, `${asked.length} connections`);
  t.same(
    asked,
    asked.toSorted((a, b) => a - b),
    'each goes on where the one before it ended',
  );
  t.equal(new Set(asked).size, asked.length, 'and brings something');
});
