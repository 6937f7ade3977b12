import { silentLogger } from '@sepia/base/log';
import { Metrics } from '@sepia/base/metrics';
import { rawHttp } from '@sepia/test-support/clients/raw-http';
import t from 'tap';
import { request } from 'undici';
import { startAdmin } from '../src/admin.ts';
import { createApp } from '../src/app.ts';
import { createGate } from '../src/gate.ts';

t.test(
  '/readyz says why a process is not ready, and what is to be seen to; a metric says the first',
  async (t) => {
    let why: string | undefined;
    let warnings: string[] = [];
    const log = silentLogger();
    const metrics = new Metrics('agent', 'a');
    const app = createApp({ log, gate: createGate({ open: {}, guards: {} }) });
    const deps = { log, metrics, app, notReady: () => why, warnings: () => warnings };
    const admin = await startAdmin(deps, '127.0.0.1:0');
    t.teardown(() => admin.stop(0));
    const get = async (path: string): Promise<[number, string]> => {
      const answer = await request(`${admin.url}${path}`);
      return [answer.statusCode, await answer.body.text()];
    };
    t.same(await get('/readyz'), [200, 'ok\n']);
    t.match((await get('/metrics'))[1], /^sepia_ready\{.*\} 1$/m);
    t.match((await get('/metrics'))[1], /^sepia_bugs_total\{.*\} 0$/m);
    warnings = ['none of the trackers has answered for 15 s'];
    t.same(await get('/readyz'), [200, 'ok\nwarning: none of the trackers has answered for 15 s\n']);
    why = 'none of the origins has answered for 10 s';
    t.same(await get('/readyz'), [503, 'none of the origins has answered for 10 s\n']);
    t.match((await get('/metrics'))[1], /^sepia_ready\{.*\} 0$/m);
  },
);

t.test('/debug with a proof answers to whoever has it; the rest stays open', async (t) => {
  const log = silentLogger();
  const app = createApp({ log, gate: createGate({ open: {}, guards: {} }) });
  const debugProof = { file: '/data/debug-token', token: 'sepia-debug-1-aa' };
  const deps = { log, metrics: new Metrics('agent', 'a'), app, notReady: () => undefined, debugProof };
  const admin = await startAdmin({ ...deps, debug: { layers: () => ['private'] } }, '127.0.0.1:0');
  t.teardown(() => admin.stop(0));
  const get = async (path: string, authorization?: string): Promise<[number, string]> => {
    const headers = authorization === undefined ? {} : { authorization };
    const answer = await request(`${admin.url}${path}`, { headers });
    return [answer.statusCode, await answer.body.text()];
  };
  for (const path of ['/debug/layers', '/debug/routes', '/debug/none']) {
    for (const given of [undefined, 'Bearer ', 'Bearer sepia-debug-1-ab', 'sepia-debug-1-aa']) {
      const [status, text] = await get(path, given);
      t.equal(status, 401, `${path} ${given}`);
      t.equal(JSON.parse(text).errors[0].detail.file, '/data/debug-token');
    }
  }
  t.match(await get('/debug/layers', 'Bearer sepia-debug-1-aa'), [200, /private/]);
  for (const path of ['/livez', '/readyz', '/metrics']) t.equal((await get(path))[0], 200, path);
});

t.test('/debug answers to this machine by its own names; scrapers may use any', async (t) => {
  const log = silentLogger();
  const app = createApp({ log, gate: createGate({ open: {}, guards: {} }) });
  const admin = await startAdmin(
    {
      log,
      metrics: new Metrics('agent', 'a'),
      app,
      notReady: () => undefined,
      debug: { swarms: () => ({ swarms: [] }) },
    },
    '127.0.0.1:0',
  );
  t.teardown(() => admin.stop(0));
  const get = async (target: string, host: string): Promise<number> => {
    const head = `GET ${target} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`;
    return (await rawHttp(admin.url, head)).statuses[0]!;
  };
  for (const path of ['/debug/swarms', '/debug/routes', '/debug/none']) {
    for (const host of [
      'evil.example.com',
      'evil.example.com:17002',
      '127.0.0.1.evil.test',
      'localhost.evil.test',
    ])
      t.equal(await get(path, host), 421, `${path} as ${host}`);
    t.equal(await get(`http://evil.example.com${path}`, '127.0.0.1'), 421, `${path}, an absolute target`);
  }
  for (const host of ['127.0.0.1:17002', 'localhost', '[::1]:17002', 'agent-1:17002'])
    t.equal(await get('/debug/swarms', host), 200, host);
  for (const path of ['/livez', '/readyz', '/healthz', '/metrics'])
    t.equal(await get(path, 'sepia-agent.monitoring.svc'), 200, path);
});
