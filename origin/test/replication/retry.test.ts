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
