import { silentLogger } from '@sepia/base/log';
import { Metrics } from '@sepia/base/metrics';
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
