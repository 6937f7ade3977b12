import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { digestOf } from '@sepia/base/digest';
import { pushManifest } from '@sepia/test-support/clients/registry-calls';
import { areDone, conversionCluster } from '@sepia/test-support/cluster/conversion-cluster';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { request } from 'undici';

t.test(
  'a webhook at a proxy becomes a converted image beside its source',
  { timeout: 120_000 },
  async (t) => {
    const here = await conversionCluster(t);
    const source = await here.push('team/app', '1', 'hello');
    t.equal(await here.webhook('PUSH_ARTIFACT', 'team/app', '1', 'wrong'), 401);
    t.equal(await here.webhook('PUSH_ARTIFACT', 'team/app', '1'), 202);
    await until(async () => (await here.jobs()).length === 1, 'the job is on record');
    t.match(
      await here.jobs(),
      [{ state: 'waiting', payload: { rule: 'lazy', tag: '1' } }],
      'it waits although no accelerator runs',
    );
    await here.start('accelerator-1');
    await until(async () => areDone(await here.jobs()), 'the jobs are done', 60_000);
    const [job] = await here.jobs();
    t.match(job?.result, { outcome: 'converted', source, layers: 1, layersKept: 0 });
    const made = await here.manifest('team/app', '1-estargz');
    t.equal(made?.annotations['io.sepia.conversion.source'], source);
    const { digest } = made!.layers[0]!;
    const answer = await request(`${here.proxy}/v2/team/app/blobs/${digest}`);
    const layer = Buffer.from(await answer.body.arrayBuffer());
    t.equal(digestOf(layer), digest);
    t.ok(gunzipSync(layer).includes('hello'));
    t.same(readdirSync(join(here.dir, 'accelerator-1', 'work')), [], 'no layer is left on disk');
  },
);

t.test('a result is never a source; a source that goes takes it away', { timeout: 120_000 }, async (t) => {
  const here = await conversionCluster(t);
  await here.start('accelerator-1');
  await here.push('team/app', '1', 'hello');
  await here.webhook('PUSH_ARTIFACT', 'team/app', '1');
  await until(async () => areDone(await here.jobs()), 'the jobs are done', 60_000);
  // By its suffix: nothing is queued. By its annotation, under another tag: it is looked at and left alone.
  await here.webhook('PUSH_ARTIFACT', 'team/app', '1-estargz');
  const made = await here.manifest('team/app', '1-estargz');
  await pushManifest(here.proxy, 'team/app', made!, 'renamed');
  await here.webhook('PUSH_ARTIFACT', 'team/app', 'renamed');
  await until(
    async () => (await here.jobs()).length === 2 && areDone(await here.jobs()),
    'both jobs are done',
    60_000,
  );
  const renamed = (await here.jobs()).find((job) => job.payload.tag === 'renamed');
  t.match(renamed?.result, { outcome: 'skipped', reason: 'it is a result of a conversion' });
  t.equal(await here.manifest('team/app', 'renamed-estargz'), undefined);
  const gone = await request(`${here.proxy}/v2/team/app/manifests/1`, { method: 'DELETE' });
  t.equal(gone.statusCode, 202);
  await here.webhook('DELETE_ARTIFACT', 'team/app', '1');
  await until(
    async () => (await here.jobs()).some((job) => job.payload.kind === 'remove' && job.state === 'done'),
    'the result is taken away',
    60_000,
  );
  t.match((await here.jobs()).find((job) => job.payload.kind === 'remove')?.result, { outcome: 'removed' });
  t.equal(await here.manifest('team/app', '1-estargz'), undefined);
});
