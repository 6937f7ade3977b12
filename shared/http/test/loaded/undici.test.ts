import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import * as index from 'undici';
import { Agent, buildConnector, Pool, ProxyAgent } from '../../src/loaded/undici.ts';

/** A process that answers itself in JSON, and says which modules Node has loaded for it. */
const PROGRAM = `
import { silentLogger } from '@sepia/base/log';
import { createApp } from './src/app.ts';
import { createGate } from './src/gate.ts';
import { HttpListener } from './src/listener.ts';
import { createRouter, routesOf, serve } from './src/router.ts';
import { createDispatcher } from './src/sockets.ts';
import { request } from './src/loaded/undici.ts';
const app = createApp({ log: silentLogger(), gate: createGate({ open: { '/*': 'anyone' } }) });
const router = createRouter();
serve(router, { name: 'list', method: 'GET', path: '/list' }, (ctx) => void (ctx.body = { list: [1, 'ä'] }));
serve(router, { name: 'none', method: 'GET', path: '/none' }, (ctx) => void (ctx.body = []));
app.use(routesOf(router));
const listener = await HttpListener.start(app.callback(), '127.0.0.1:0', 'listen');
const dispatcher = createDispatcher();
const answers = [];
for (const path of ['/list', '/none?a=b']) {
  const { statusCode, headers, body } = await request(new URL(path, listener.url), { dispatcher, method: 'GET' });
  answers.push([statusCode, headers['content-type'], headers['content-length'], await body.text()]);
}
await dispatcher.destroy();
await listener.stop(0);
const ownClient = process.moduleLoadList.filter((one) => one.includes('internal/deps/undici'));
process.stdout.write(JSON.stringify({ answers, ownClient }));
`;

t.test('parts of undici are those that its index has', async (t) => {
  t.equal(Agent, index.Agent);
  t.equal(Pool, index.Pool);
  t.equal(ProxyAgent, index.ProxyAgent);
  t.equal(buildConnector, index.buildConnector);
});

t.test('who serves and calls in JSON does not load the HTTP client of Node', async (t) => {
  const args = ['--input-type=module', '--eval', PROGRAM];
  const { stdout } = await promisify(execFile)(process.execPath, args, {
    cwd: join(import.meta.dirname, '../..'),
  });
  const type = 'application/json; charset=utf-8';
  t.strictSame(JSON.parse(stdout), {
    answers: [
      [200, type, '17', '{"list":[1,"ä"]}'],
      [200, type, '2', '[]'],
    ],
    ownClient: [],
  });
});
