import type { ConversionJob } from '@sepia/cluster/api/conversions';
import { areDone, conversionCluster } from '@sepia/test-support/cluster/conversion-cluster';
import { until } from '@sepia/test-support/until';
import t from 'tap';

t.setTimeout(300_000);

t.test('sepia conversions list, show, cancel and retry, as an operator runs them', async (t) => {
  const here = await conversionCluster(t);
  const sepia = async (...args: string[]) => await here.cluster.sepia('conversions', ...args);
  const stateOf = async (id: string): Promise<string> =>
    (JSON.parse((await sepia('show', id)).stdout) as ConversionJob).state;

  t.equal((await sepia('list')).stdout, 'No jobs.\n');
  // No accelerator runs: the job waits.
  await here.push('team/app', 'v1', 'one');
  t.equal(await here.webhook('PUSH_ARTIFACT', 'team/app', 'v1'), 202);
  await until(async () => (await here.jobs()).length === 1, 'the job is on record');
  const [{ id }] = (await here.jobs()) as [ConversionJob];
  t.match((await sepia('list')).stdout, new RegExp(`^${id}  waiting +lazy  local/team/app:v1$`, 'm'));
  t.match(await sepia('cancel', id), { code: 0, stdout: `${id}: cancelled\n` });
  t.equal(await stateOf(id), 'cancelled');
  t.match(await sepia('cancel', id), { code: 0, stdout: `${id}: cancelled\n` }, 'it stays cancelled');

  t.match(await sepia('retry', id), { code: 0, stdout: `${id}: runs again\n` });
  t.equal(await stateOf(id), 'waiting');
  await here.start('accelerator-1');
  await until(async () => areDone(await here.jobs()), 'it is done', 120_000);
  const late = await sepia('cancel', id);
  t.equal(late.code, 2, 'a job that is done cannot be cancelled');
  t.equal(late.stdout, '');
  t.match(late.stderr, /JOB_ENDED.*has ended already: it is done/);
  t.equal(await stateOf(id), 'done');

  for (const verb of ['show', 'cancel', 'retry'])
    t.match(
      await sepia(verb, '1-unknown'),
      { code: 2, stderr: /JOB_UNKNOWN.*no job 1-unknown is known/ },
      verb,
    );
});
