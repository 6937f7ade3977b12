import { silentLogger } from '@sepia/base/log';
import t from 'tap';
import { Replication } from '../../src/replication/replication.ts';
import type {
  JobEntry,
  OpenJob,
  ReplicationJob,
  ReplicationJobs,
} from '../../src/replication/replication-jobs.ts';
import type { ReplicationQueue } from '../../src/replication/replication-queue.ts';

const JOB: Omit<ReplicationJob, 'state'> = {
  v: 1,
  rule: 'write-back/hub',
  ...{ upstream: 'hub', repository: 'team/app', reference: 'v1', kind: 'copy' },
  ...{ createdAtMs: 1, tries: 3 },
};

function open(id: string, state: 'intent' | 'waiting' | 'dead'): OpenJob {
  return { upstream: 'hub', repository: 'team/app', id, atMs: 1, job: { ...JOB, state } };
}

t.test(
  'a retry leaves intents alone: run before its push moves the tag, one would end without it',
  async (t) => {
    const written: JobEntry[] = [];
    const jobs = {
      async *open() {
        yield* [open('a', 'intent'), open('b', 'waiting'), open('c', 'dead')];
      },
      onChanged: () => undefined,
    };
    const queue = { write: async (entries: readonly JobEntry[]) => void written.push(...entries) };
    const replication = new Replication({
      members: {} as never,
      jobs: jobs as unknown as ReplicationJobs,
      queue: queue as unknown as ReplicationQueue,
      targets: new Map(),
      newCopy: () => t.fail('nothing runs') as never,
      carryOut: async () => undefined,
      log: silentLogger(),
      nowMs: () => 0,
      chance: () => 0,
      onOutcome: () => undefined,
    });
    t.equal(await replication.retry(() => true, 50), 2);
    t.match(written, [
      { id: 'b', atMs: 50, job: { state: 'waiting', tries: 0 } },
      { id: 'c', atMs: 50, job: { state: 'waiting', tries: 0 } },
    ]);
  },
);

t.test('a stop begins nothing that was ready', async (t) => {
  const ids = Array.from({ length: 6 }, (_, at) => `j${at}`);
  const all = ids.map(
    (id): OpenJob => ({ ...open(id, 'waiting'), job: { ...JOB, reference: id, state: 'waiting' } }),
  );
  const jobs = {
    async *open() {
      yield* all;
    },
    get: async ({ id }: { id: string }) => all.find((one) => one.id === id),
    onChanged: () => undefined,
  };
  const go = Promise.withResolvers<void>();
  const full = Promise.withResolvers<void>();
  let begun = 0;
  const target = { rule: { retry: {} }, client: { close: async () => undefined } };
  const replication = new Replication({
    members: {
      selfId: 'o1',
      leaderOf: () => 'o1',
      isSuspect: () => false,
    } as never,
    jobs: jobs as unknown as ReplicationJobs,
    queue: {
      write: async () => undefined,
      mayRun: () => true,
      owners: () => ({ owners: ['o1'] }),
    } as unknown as ReplicationQueue,
    targets: new Map([[JOB.rule, target as never]]),
    newCopy: () => ({ progress: {} }) as never,
    carryOut: async () => {
      begun += 1;
      if (begun === 4) full.resolve();
      await go.promise;
    },
    log: silentLogger(),
    nowMs: () => 0,
    chance: () => 0,
    onOutcome: () => undefined,
  });
  replication.start();
  await full.promise;
  const stopping = replication.stop();
  go.resolve();
  await stopping;
  await new Promise((resolve) => setImmediate(resolve));
  t.equal(begun, 4, 'of one rule so many run at once');
});
