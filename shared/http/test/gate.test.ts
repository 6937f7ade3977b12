import { Agent, request } from 'node:http';
import { CodedError } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import { rawHttp } from '@sepia/test-support/clients/raw-http';
import t, { type Test } from 'tap';
import { createApp } from '../src/app.ts';
import { createGate, type GuardCheck } from '../src/gate.ts';
import { HttpListener } from '../src/listener.ts';
import { guardOf, OPEN_ROUTES, type OpenRoutes } from '../src/open-routes.ts';
import { createRouter, listRoutes, routesOf } from '../src/router.ts';
import { CallVerifier, hashOf, signCall } from '../src/sign.ts';

const KEY = Buffer.alloc(32, 7);
const OPEN: OpenRoutes = { '/open': 'anyone', '/half/*': 'driver' };

async function start(t: Test, driver: GuardCheck = () => undefined) {
  const reached: string[] = [];
  const gate = createGate({
    open: OPEN,
    guards: { driver },
    verifier: new CallVerifier({ clusterKey: KEY, selfId: 'o-1' }),
  });
  const app = createApp({ log: silentLogger(), gate });
  const router = createRouter();
  for (const path of ['/open', '/half/:id', '/v1/closed', '/v1/closed/:id']) {
    router.get(path, (ctx) => {
      reached.push(path);
      ctx.body = `${path}\n`;
    });
  }
  app.use(routesOf(router));
  const listener = await HttpListener.start(app.callback(), '127.0.0.1:0', 'listen');
  t.teardown(() => listener.stop(0));
  const ask = async (target: string, headers = '', method = 'GET'): Promise<number> => {
    const head = `${method} ${target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n${headers}\r\n`;
    return (await rawHttp(listener.url, head)).statuses[0]!;
  };
  return { app, ask, reached, url: listener.url };
}

t.test('what no list opens needs a signature, in whatever spelling', async (t) => {
  const { ask, reached } = await start(t);
  for (const target of [
    '/v1/closed',
    '/V1/closed',
    '/v1/CLOSED',
    '/v1/closed/',
    '/v1//closed',
    '//v1/closed',
    '/v1/./closed',
    '/open/../v1/closed',
    '/open/%2e%2e/v1/closed',
    '/v1%2fclosed',
    '/%76%31/closed',
    '/v1/closed;a=b',
    '/v1/closed/x',
    '/v1/closed?/open',
    'http://x/v1/closed',
    'HTTP://x/V1/closed',
    'http://x@y/v1/closed',
    'http://x\\v1/closed',
    '*',
    'x',
    '/OPEN',
    '/open/',
    '/open;',
    '/%6fpen',
    '/half',
  ]) {
    const status = await ask(target);
    t.ok([400, 403, 404].includes(status), `${target}: ${status}`);
  }
  t.equal(await ask('/v1/other', 'X-HTTP-Method-Override: GET\r\nX-Original-URL: /open\r\n', 'POST'), 403);
  t.same(reached, []);
});

t.test('what is open is open, by its guard', async (t) => {
  const { ask, reached } = await start(t, (ctx) => {
    if (ctx.get('x-secret') !== 'right') throw new CodedError('AUTH_REQUIRED');
  });
  t.equal(await ask('/open'), 200);
  t.equal(await ask('/open?x'), 200);
  t.equal(await ask('http://elsewhere/open'), 200);
  t.equal(await ask('/half/1'), 401);
  t.equal(await ask('/half/../v1/closed'), 401);
  t.equal(await ask('/half/1', 'X-Secret: right\r\n'), 200);
  t.equal(await ask('/open', '', 'POST'), 405);
  t.same(reached, ['/open', '/open', '/open', '/half/:id']);
});

t.test('a request that claims to come from a member must be signed right, on open paths too', async (t) => {
  const { ask, reached } = await start(t);
  const signed = (key: Uint8Array, path: string): string => {
    const call = { method: 'GET', path, headers: {}, body: hashOf('') };
    return `Authorization: ${signCall({ clusterKey: key, id: 'a-1' }, 'o-1', call, Date.now())}\r\n`;
  };
  const other = Buffer.alloc(32, 8);
  t.equal(await ask('/v1/closed', signed(KEY, '/v1/closed')), 200);
  t.equal(await ask('/open', signed(KEY, '/open')), 200);
  t.equal(await ask('/open', signed(other, '/open')), 403);
  t.equal(await ask('/v1/closed', signed(KEY, '/open')), 403);
  t.equal(await ask('/V1/closed', signed(KEY, '/V1/closed')), 404, 'routers know case');
  t.equal(await ask('/v1/closed/', signed(KEY, '/v1/closed/')), 404, 'and slashes at the end');
  t.same(reached, ['/v1/closed', '/open']);
});

t.test('a connection over which a call came that was not signed right is not used again', async (t) => {
  const { url } = await start(t);
  const agent = new Agent({ keepAlive: true });
  t.teardown(() => agent.destroy());
  const connection = async (key: Uint8Array): Promise<string | undefined> => {
    const call = { method: 'GET', path: '/open', headers: {}, body: hashOf('') };
    const authorization = signCall({ clusterKey: key, id: 'a-1' }, 'o-1', call, Date.now());
    return await new Promise((resolve, reject) => {
      const asked = request(`${url}/open`, { agent, headers: { authorization } }, (answer) => {
        answer.resume();
        resolve(answer.headers.connection);
      });
      asked.on('error', reject).end();
    });
  };
  t.equal(await connection(KEY), 'keep-alive');
  t.equal(await connection(Buffer.alloc(32, 8)), 'close');
});

t.test('two hosts are refused, whoever asks', async (t) => {
  const { ask, reached } = await start(t);
  t.equal(await ask('/open', 'Host: x\r\n'), 400);
  t.equal(await ask('/open', 'HOST: y\r\n'), 400);
  t.equal(await ask('/v1/closed', 'Host: x\r\nAuthorization: Sepia v=1\r\n'), 400);
  t.equal(await ask('/open', 'X-Forwarded-Host: y\r\nX-Name: Host\r\n'), 200);
  t.same(reached, ['/open']);
});

t.test('HTTP/1.1 names its host; before 1.1 nobody did', async (t) => {
  const { url } = await start(t);
  const ask = async (version: string): Promise<string> =>
    (await rawHttp(url, `GET /open HTTP/${version}\r\nConnection: close\r\n\r\n`)).text;
  t.match(await ask('1.1'), /^HTTP\/1\.1 400 .*Sepia-Error: REQUEST_INVALID\r.*"Host header is missing"/s);
  t.match(await ask('1.0'), /^HTTP\/1\.1 200 /);
});

t.test('a guard without a check is a mistake at start', async (t) => {
  t.throws(() => createGate({ open: { '/x': 'driver' } }), TypeError);
});

t.test('routes are listed from the routers themselves', async (t) => {
  const { app } = await start(t);
  t.same(listRoutes(app), [
    { method: 'GET', path: '/open' },
    { method: 'GET', path: '/half/:id' },
    { method: 'GET', path: '/v1/closed' },
    { method: 'GET', path: '/v1/closed/:id' },
  ]);
});

t.test('no list opens an internal route', async (t) => {
  for (const [role, open] of Object.entries(OPEN_ROUTES)) {
    for (const path of ['/v1', '/v1/', '/v1/status', '/v1/blobs/x', '/V1/status', ''])
      t.equal(guardOf(open, path), undefined, `${role} ${path}`);
  }
});

t.test('a segment that may be anything is one segment', async (t) => {
  const torrent = OPEN_ROUTES.tracker;
  t.equal(guardOf(torrent, '/v1/blobs/sha256:ab/torrent'), 'anyone');
  for (const path of [
    '/v1/blobs//torrent',
    '/v1/blobs/torrent',
    '/v1/blobs/x/torrent/',
    '/v1/blobs/x/y/torrent',
    '/v1/blobs/x/Torrent',
    '/v1/blobs/*',
    '/v1/blobs/x/where',
  ])
    t.equal(guardOf(torrent, path), undefined, path);
});

t.test('a member that is told no names, as a proxy, is asked by any', async (t) => {
  const app = createApp({ log: silentLogger(), gate: createGate({ open: { '/open': 'anyone' } }) });
  app.use((ctx) => {
    ctx.body = 'here';
  });
  const listener = await HttpListener.start(app.callback(), '127.0.0.1:0', 'listen');
  t.teardown(() => listener.stop(0));
  for (const host of ['127.0.0.1', 'registry.example', 'evil.example:17300']) {
    const asked = `GET /open HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`;
    t.same((await rawHttp(listener.url, asked)).statuses, [200], host);
  }
});

t.test("a stranger asks by a host that is the member's own", async (t) => {
  const app = createApp({
    log: silentLogger(),
    gate: createGate({ open: { '/open': 'anyone' }, hosts: () => ['registry.example'] }),
  });
  app.use((ctx) => {
    ctx.body = 'here';
  });
  const listener = await HttpListener.start(app.callback(), '127.0.0.1:0', 'listen');
  t.teardown(() => listener.stop(0));
  const ask = async (target: string, host: string): Promise<number> =>
    (await rawHttp(listener.url, `GET ${target} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`))
      .statuses[0]!;
  for (const [target, host] of [
    ['/open', '127.0.0.1:17000'],
    ['/open', 'registry.example'],
    ['http://registry.example/open', 'evil.example'],
    ['http://registry.example/open', 'registry.example'],
  ] as const)
    t.equal(await ask(target, host), 200, `${target} ${host}`);
  for (const [target, host] of [
    ['/open', 'evil.example:17000'],
    ['http://evil.example/open', '127.0.0.1'],
    ['http://evil.example/open', 'registry.example'],
  ] as const)
    t.equal(await ask(target, host), 421, `${target} ${host}`);
});
