import { silentLogger } from '@sepia/base/log';
import { VirtualTime } from '@sepia/test-support/virtual-time';
import t from 'tap';
import { Replication } from '../../src/replication/replication.ts';
import type { OpenJob, ReplicationJobs } from '../../src/replication/replication-jobs.ts';
import type { ReplicationQueue } from '../../src/replication/replication-queue.ts';

const JOB: OpenJob = {
  ...{ upstream: 'local', repository: 'team/app', id: 'a', atMs: 1 },
  job: {
    ...{ v: 1, rule: 'dr', upstream: 'local', repository: 'team/app', reference: 'v1', kind: 'copy' },
    ...{ state: 'dead', createdAtMs: 1, tries: 3 },
  },
};

t.test('an empty queue is looked at seldom, and at once when something comes into it', async (t) => {
  const time = new VirtualTime().install();
  t.teardown(() => time.uninstall());
  const queued: OpenJob[] = [];
  let looks = 0;
  let changed = (): void => undefined;
  /** Told while the queue is read, behind the place where it would be. */
  let comesBehind: OpenJob | undefined;
  const jobs = {
    async *open() {
      looks += 1;
      yield* [...queued];
      if (comesBehind === undefined) return;
      queued.push(comesBehind);
      comesBehind = undefined;
      changed();
    },
    onChanged: (listener: () => void) => {
      changed = listener;
    },
  };
  const replication = new Replication({
    members: { selfId: 'o1', leaderOf: () => 'o1' } as never,
    jobs: jobs as unknown as ReplicationJobs,
    queue: { mayRun: () => true } as unknown as ReplicationQueue,
    targets: new Map(),
    newCopy: () => t.fail('nothing runs') as never,
    carryOut: async () => undefined,
    log: silentLogger(),
    nowMs: () => time.elapsedMs,
    chance: () => 0,
    onOutcome: () => undefined,
  });
  replication.start();
  await time.pass(119_000);
  t.equal(looks, 4, 'two a minute');
  queued.push(JOB);
  changed();
  await time.pass(0);
  t.equal(looks, 5, 'what came is seen at once');
  t.equal(replication.counts.dead, 1);
  await time.pass(10_000);
  t.equal(looks, 15, 'while there is something it is looked at each second');
  queued.length = 0;
  comesBehind = JOB;
  await time.pass(1_000);
  t.equal(replication.counts.dead, 0, 'a look that came too soon for it');
  await time.pass(1_000);
  t.equal(
    replication.counts.dead,
    1,
    'what came during a look that found nothing is not left for the long rest',
  );
  await time.settle(replication.stop());
});
