import { join } from 'node:path';
import { areDone, conversionCluster, SECRET } from '@sepia/test-support/cluster/conversion-cluster';
import { until } from '@sepia/test-support/until';
import { call } from '@sepia/test-support/upstream/harbor-calls';
import t from 'tap';
import { request } from 'undici';

// Several clusters one after the other, each with its waits.
t.setTimeout(300_000);

t.test(
  'two accelerators share the queue, and one goes away in the middle',
  { timeout: 180_000 },
  async (t) => {
    const here = await conversionCluster(t);
    const first = await here.start('accelerator-1');
    const tags = Array.from({ length: 6 }, (_, index) => `t${index}`);
    for (const tag of tags) await here.push('team/many', tag, `content of ${tag}`.repeat(1000));
    for (const tag of tags) t.equal(await here.webhook('PUSH_ARTIFACT', 'team/many', tag), 202);
    await until(async () => (await here.jobs()).length > 2, 'jobs are on record');
    await here.start('accelerator-2');
    await first.stop();
    await until(
      async () => (await here.jobs()).length === tags.length && areDone(await here.jobs()),
      'all are converted',
      120_000,
    );
    for (const tag of tags) {
      const made = await here.manifest('team/many', `${tag}-estargz`);
      t.equal(made?.annotations['io.sepia.conversion.format'], 'estargz', tag);
    }
  },
);

t.test(
  "requests of Harbor's acceleration-service get its answers; a scan finds what nobody told",
  { timeout: 120_000 },
  async (t) => {
    const here = await conversionCluster(t);
    const file = join(here.dir, 'hook');
    await here.push('team/app', 'told', 'told');
    await here.push('team/app', 'untold', 'untold');
    const closed = await here.start('accelerator-2');
    for (const path of ['events', '1-x/events'])
      t.equal(
        (await call('GET', `${closed.url}/api/v1/conversions/${path}`)).status,
        403,
        'for members only',
      );
    const accelerator = await here.start('accelerator-1', {
      scan: '2s',
      api: { 'authorization-file': file, read: 'anyone' },
    });
    const api = `${accelerator.url}/api/v1`;
    t.equal((await call('GET', `${api}/health`)).status, 200);
    const body = {
      type: 'PUSH_ARTIFACT',
      event_data: { resources: [{ resource_url: 'harbor.test/team/app:told' }] },
    };
    t.match(await call('POST', `${api}/conversions`, body), {
      status: 401,
      json: { code: 'ERR_UNAUTHORIZED', message: 'the Authorization header is missing or wrong' },
    });
    t.match(await call('GET', `${api}/elsewhere`), { status: 404, json: { code: 'ERR_INVALID_ENDPOINT' } });
    t.equal((await call('POST', `${api}/conversions`, body, { authorization: 'wrong' })).status, 401);
    t.match(await call('POST', `${api}/conversions?sync=false`, body, { authorization: SECRET }), {
      status: 200,
      text: '"Ok"',
    });
    t.match(await call('POST', `${api}/conversions`, { type: 'PUSH_ARTIFACT' }, { authorization: SECRET }), {
      status: 400,
      json: { code: 'ERR_ILLEGAL_PARAMETER' },
    });
    t.equal(
      (await call('POST', `${api}/conversions`, { type: 'SCANNING_COMPLETED' }, { authorization: SECRET }))
        .status,
      200,
    );
    const untagged = [{ resource_url: `harbor.test/team/app@sha256:${'1'.repeat(64)}` }];
    const digestOnly = { type: 'PUSH_ARTIFACT', event_data: { resources: untagged } };
    t.equal((await call('POST', `${api}/conversions`, digestOnly, { authorization: SECRET })).status, 200);
    t.notOk(
      (await here.jobs()).some((job) => job.payload.tag === 'latest'),
      'an image without a tag is not latest',
    );
    await here.push('team/app', 'waits', 'waits');
    const waits = {
      type: 'PUSH_ARTIFACT',
      event_data: { resources: [{ resource_url: 'harbor.test/team/app:waits' }] },
    };
    t.match(await call('POST', `${api}/conversions?sync=true`, waits, { authorization: SECRET }), {
      status: 200,
      text: '"Ok"',
    });
    t.ok(await here.manifest('team/app', 'waits-estargz'), 'the answer comes once it is converted');
    await until(
      async () =>
        (await here.manifest('team/app', 'untold-estargz')) !== undefined &&
        (await here.manifest('team/app', 'told-estargz')) !== undefined,
      'both are converted',
      60_000,
    );
    await until(async () => areDone(await here.jobs()), 'the jobs are done', 60_000);
    const list = await call('GET', `${api}/conversions`);
    t.equal(list.status, 200);
    const tasks = JSON.parse(list.text) as {
      id: string;
      status: string;
      source: string;
      source_size: number;
      target_size: number;
    }[];
    t.ok(tasks.every((task) => task.status === 'COMPLETED' && task.source_size > 0 && task.target_size > 0));
    t.ok(tasks.some((task) => task.source.endsWith('/team/app:told')));
    const [task] = tasks;
    const events = await request(`${api}/conversions/${task!.id}/events`);
    const text = await events.body.text();
    t.match(
      text,
      /^event: job\ndata: \{.*"status":"COMPLETED".*\}\n\nevent: current\n/m,
      'all of it, and an end',
    );
    t.equal(text.match(/^event: job$/gm)?.length, 1, 'of this job only');
    for (const file of ['', 'style.css', 'app.js']) {
      const page = await request(`${accelerator.url}/ui/${file}`);
      t.equal(page.statusCode, 200, `/ui/${file} is open`);
      t.match(page.headers['content-security-policy'], /^default-src 'none'/);
      t.notMatch(await page.body.text(), /https?:\/\/|innerHTML|insertAdjacentHTML|eval\(/);
    }
    t.equal((await call('POST', `${api}/conversions/1-x/cancel`)).status, 404, 'changes are for members');
    t.equal((await call('GET', `${accelerator.url}/v1/anything`)).status, 403);
  },
);
