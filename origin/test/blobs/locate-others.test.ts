import { digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import type { RepositoryName } from '@sepia/base/names/repository';
import t from 'tap';
import { Blobs } from '../../src/blobs/blobs.ts';

type Deps = ConstructorParameters<typeof Blobs>[0];

const NAME = {
  upstream: 'local',
  repository: 'team/app' as RepositoryName,
  digest: digestOf(Buffer.from('a blob')),
};

t.test(
  'others say what they have under the epoch of the asker; who knows a newer ring does not say no',
  async (t) => {
    const epochs: (number | undefined)[] = [];
    const isNewerAt = new Set<string>();
    const members = {
      selfId: 'o1',
      epoch: 2,
      candidates: () => ['o1', 'o2', 'o3'],
      placement: () => ({ owners: ['o1', 'o3'] }),
      json: async (id: string, call: { epoch?: number }) => {
        epochs.push(call.epoch);
        if (isNewerAt.has(id)) throw new CodedError('EPOCH_OUTDATED');
        return { state: 'none' };
      },
    };
    const blobs = new Blobs({ members } as unknown as Deps);
    t.same(await blobs.locateOthers(NAME), { type: 'absent', fetchIds: ['o3', 'o2'] });
    isNewerAt.add('o3');
    t.same(await blobs.locateOthers(NAME), { type: 'undecided', fetchIds: ['o2'] });
    t.same(epochs, [2, 2, 2, 2]);
  },
);

t.test(
  'whoever is asked because another is gone says that it does not know, not that nobody has it',
  async (t) => {
    const blobs = new Blobs({
      members: {
        selfId: 'o1',
        epoch: 2,
        candidates: () => ['o1', 'o2', 'o3'],
        placement: () => ({ owners: ['o1', 'o3'] }),
        json: async () => ({ state: 'none' }),
      },
      upstreams: { blobs: () => undefined },
      links: { require: async () => ({}) },
      proofs: { noteLink: () => undefined },
      store: { stat: async () => undefined, open: async () => undefined, tell: async () => undefined },
      fetches: { running: () => undefined },
      absence: { noteMissed: () => undefined, require: async () => undefined },
    } as unknown as Deps);
    const { signal } = new AbortController();
    const unknown = { code: 'BLOB_UNKNOWN' };
    const undecided = { code: 'QUORUM_LOST' };
    await t.rejects(blobs.elsewhere(NAME, 'ask'), unknown, 'all were asked');
    await t.rejects(blobs.elsewhere(NAME, 'skip'), undecided);
    await t.rejects(blobs.openHere(NAME, undefined, signal), undecided);
    for (const fetch of [true, false]) {
      const options = { fetch, wantAll: true, others: 'skip' } as const;
      await t.rejects(blobs.metainfo(NAME, options, signal), undecided);
      await t.rejects(blobs.metainfo(NAME, { ...options, others: 'ask' }, signal), unknown);
    }
  },
);

t.test('who asks beside the question where a blob is, and leaves, begins no fetch', async (t) => {
  const asked = Promise.withResolvers<void>();
  let begun = 0;
  const blobs = new Blobs({
    members: {
      selfId: 'o1',
      epoch: 2,
      candidates: () => ['o1', 'o2'],
      placement: () => ({ owners: ['o1', 'o2'] }),
      json: async (_id: string, { signal }: { signal: AbortSignal }) => {
        asked.resolve();
        await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
        throw new CodedError('PEER_HTTP');
      },
    },
    upstreams: { blobs: () => ({}) },
    links: { require: async () => ({}) },
    proofs: { noteLink: () => undefined, requireShown: async () => undefined },
    store: { tell: async () => undefined },
    fetches: {
      running: () => undefined,
      begin: async () => {
        begun += 1;
        throw new CodedError('BACKEND_DOWN');
      },
    },
    absence: { noteMissed: () => undefined },
  } as unknown as Deps);
  const gone = new AbortController();
  const told = blobs.metainfo(NAME, { fetch: true, wantAll: true, others: 'ask' }, gone.signal);
  await asked.promise;
  const left = new CodedError('TIMEOUT');
  gone.abort(left);
  t.equal(await told.catch((error: unknown) => error), left);
  t.equal(begun, 0);
});
