import { silentLogger } from '@sepia/base/log';
import { parseRepositoryName } from '@sepia/base/names/repository';
import t from 'tap';
import type { JobRecord } from '../../src/harbor/core/job-slots.ts';
import { Jobs } from '../../src/harbor/jobs.ts';

const IMAGE = {
  upstream: 'hub',
  repository: parseRepositoryName('team/app'),
  reference: { kind: 'tag', tag: 'v1' },
} as never;

/** Jobs over one register in memory; `before` each change of it. */
function jobsOver(before: () => Promise<void>, known?: JobRecord) {
  let record = known;
  const jobs = new Jobs({
    records: {
      read: async () => record,
      change: async (_key: string, change: (current: JobRecord | undefined) => JobRecord | undefined) => {
        await before();
        record = change(record);
        return record;
      },
    },
    origins: { tries: () => [] },
    cluster: { findMember: () => undefined },
    ...{ memberId: 'proxy-1', log: silentLogger(), nowMs: () => 0, dateMs: () => 1e12 },
  } as unknown as ConstructorParameters<typeof Jobs>[0]);
  return { jobs, record: () => record };
}

t.test('a job that comes on record beside a stop is given up before the stop has ended', async (t) => {
  const [reached, go] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const { jobs, record } = jobsOver(async () => {
    reached.resolve();
    await go.promise;
  });
  const creating = jobs.create(IMAGE, 'http://hub/v2/team/app/manifests/v1', 'single_seed_peer', undefined);
  await reached.promise;
  const stopping = jobs.stop();
  go.resolve();
  await creating;
  await stopping;
  t.equal(jobs.size, 0);
  t.match(record(), { state: 'PENDING', heldAtMs: 0 }, 'the next proxy that is asked carries it on');
  await t.rejects(jobs.create(IMAGE, '', 'single_seed_peer', undefined), { code: 'DRAINING' });
});

t.test('so is one that is taken over beside a stop', async (t) => {
  const begun = jobsOver(async () => undefined);
  const job = await begun.jobs.create(IMAGE, 'http://hub', 'single_seed_peer', undefined);
  await begun.jobs.stop();
  const [reached, go] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const left = { ...job, holder: 'proxy-2.0', heldAtMs: 0 };
  const { jobs, record } = jobsOver(async () => {
    reached.resolve();
    await go.promise;
  }, left);
  const looking = jobs.get(job.id);
  await reached.promise;
  const stopping = jobs.stop();
  go.resolve();
  await looking;
  await stopping;
  t.equal(jobs.size, 0);
  t.match(record(), { state: 'PENDING', heldAtMs: 0, runs: 2 });
});

t.test('as many jobs as may run are taken, however many come at once', async (t) => {
  const go = Promise.withResolvers<void>();
  let claimed = 0;
  const { jobs } = jobsOver(async () => {
    claimed += 1;
    await go.promise;
  });
  const creating = Array.from({ length: 70 }, async () => {
    await jobs.create(IMAGE, 'http://hub', 'single_seed_peer', undefined);
  });
  const ends = Promise.allSettled(creating);
  await new Promise((resolve) => setImmediate(resolve));
  t.equal(claimed, 64);
  await t.rejects(jobs.create(IMAGE, 'http://hub', 'single_seed_peer', undefined), { code: 'OVERLOADED' });
  const stopping = jobs.stop();
  go.resolve();
  await Promise.all([stopping, ends]);
});
