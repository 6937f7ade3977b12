import { digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import { Cluster } from '@sepia/cluster/cluster';
import { Health, UNTIL_IT_ANSWERS } from '@sepia/cluster/core/health';
import { parseClusterDocument } from '@sepia/cluster/load-document';
import type { InternalRequest } from '@sepia/http/client';
import t, { type Test } from 'tap';
import { Replicator } from '../../src/blobs/replicator.ts';
import { Members } from '../../src/cluster/members.ts';

const BYTES = Buffer.from('a small blob: all of it lies in the sockets of an owner that hangs');
const NAME = { digest: digestOf(BYTES), upstream: 'local', repository: 'team/app' };

interface Owner {
  questions: number;
  /** Takes the copy that it was sent. */
  readonly taken: PromiseWithResolvers<void>;
}

/** Origin o1 with the blob, and two owners that never answer a copy; `hears`: whether one answers its n-th small question. */
function threeOwners(t: Test, hears: (owner: Owner) => boolean, refusal?: CodedError) {
  const ids = ['o1', 'o2', 'o3'];
  const members = ids.map((id) => ({ id, role: 'origin', urls: [`http://127.0.0.1:${id.slice(1)}`] }));
  const upstreams = [{ name: 'local', mode: 'none', hosts: [] }];
  const cluster = new Cluster(
    parseClusterDocument(JSON.stringify({ version: 1, members, upstreams }), 'cluster.yaml'),
  );
  const owners = new Map(ids.map((id) => [id, { questions: 0, taken: Promise.withResolvers<void>() }]));
  const client = {
    json: async ({ to, signal }: InternalRequest): Promise<object> =>
      await new Promise((resolve, reject) => {
        if (refusal !== undefined) reject(refusal);
        signal?.addEventListener('abort', () => reject(signal.reason));
        void owners.get(to)!.taken.promise.then(() => resolve({}));
      }),
    raw: async ({ to }: InternalRequest): Promise<object> => {
      const owner = owners.get(to)!;
      owner.questions += 1;
      if (!hears(owner)) throw new CodedError('PEER_HTTP', { message: 'no answer' });
      return { status: 200, headers: {}, body: { dump: async () => undefined } };
    },
  };
  const nowMs = (): number => performance.now();
  const health = new Health(nowMs, UNTIL_IT_ANSWERS);
  const handle = {
    sizeBytes: BYTES.length,
    attrs: { class: 'pushed', provenance: [] },
    read: async (_at: number, into: Uint8Array) => {
      into.set(BYTES);
      return into;
    },
    close: async () => undefined,
  };
  const deps = {
    members: new Members({ cluster, selfId: 'o1', client, health, nowMs } as unknown as ConstructorParameters<
      typeof Members
    >[0]),
    store: { open: async () => handle, stat: async () => handle, has: async () => true },
    hints: { add: async () => undefined, done: () => undefined, owes: async () => true },
    upstreams: { keepsPushes: () => true },
    lookAgain: async () => undefined,
    log: silentLogger(),
  };
  const replicator = new Replicator(deps as unknown as ConstructorParameters<typeof Replicator>[0], {
    stragglerMs: 60_000,
  });
  t.teardown(async () => await replicator.stop());
  return { replicator, others: [owners.get('o2')!, owners.get('o3')!] };
}

t.test('a push whose owners hang is refused once they have left five small questions', async (t) => {
  const { replicator, others } = threeOwners(t, () => false);
  await t.rejects(replicator.place(NAME), { code: 'QUORUM_LOST' });
  t.same(
    others.map(({ questions }) => questions),
    [5, 5],
  );
});

t.test('a push that finds no room at its owners says whose disks lack it', async (t) => {
  const message = 'disk of origin o3 is full; make room';
  for (const code of ['DISK_FULL', 'DISK_FAILED'] as const) {
    const { replicator } = threeOwners(t, () => true, new CodedError(code, { message }));
    await t.rejects(replicator.place(NAME), {
      code: 'QUORUM_LOST',
      message: `too few origins took a copy: ${message}`,
    });
  }
  const { replicator } = threeOwners(
    t,
    () => true,
    new CodedError('PEER_HTTP', { message: 'at an address' }),
  );
  await t.rejects(replicator.place(NAME), { message: 'too few origins took a copy' });
});

t.test('owners that are busy, and miss four of five, are waited for', async (t) => {
  const { replicator, others } = threeOwners(t, (owner) => {
    if (owner.questions === 11) owner.taken.resolve();
    return owner.questions % 5 === 0;
  });
  await replicator.place(NAME);
  t.ok(
    others.some(({ questions }) => questions >= 11),
    others.map(({ questions }) => questions).join(' '),
  );
});
