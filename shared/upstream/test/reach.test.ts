import { CodedError } from '@sepia/base/errors';
import type { Resolve } from '@sepia/http/names/lookup';
import { makeImage } from '@sepia/test-support/upstream/fake-upstream';
import t from 'tap';
import { request } from 'undici';
import { UpstreamSockets } from '../src/sockets.ts';
import {
  clientOf,
  failure,
  readAll,
  reference,
  REPOSITORY as repository,
  soon,
  startUpstream,
} from './client-fixture.ts';

const IMAGE = makeImage({ layers: [3_000], seed: 'reach' });
const [digest] = IMAGE.layers;
const USER = { username: 'robot', password: 's3cret' };
const V1 = { repository, reference: reference('v1') };

/** Host names of these tests; counts what is asked. */
function names(table: Readonly<Record<string, readonly string[]>>): { resolve: Resolve; asked: string[] } {
  const asked: string[] = [];
  const resolve: Resolve = (hostname, done) => {
    asked.push(hostname);
    const found = table[hostname.replace(/\.$/, '')];
    if (found === undefined) return done(Object.assign(new Error(hostname), { code: 'ENOTFOUND' }), []);
    done(
      null,
      found.map((address) => ({ address, family: address.includes(':') ? 6 : 4 })),
    );
  };
  return { resolve, asked };
}

/** The address of a fake under another name. */
function under(url: string, host: string): string {
  const named = new URL(url);
  named.hostname = host;
  return named.href.replace(/\/$/, '');
}

t.test('a redirect leads neither to this machine nor to its networks, however it is written', async (t) => {
  const upstream = await startUpstream(t);
  upstream.push(repository, IMAGE, 'v1');
  const { resolve } = names({
    'registry.example': ['127.0.0.1'],
    'inside.example': ['127.0.0.1'],
    'mixed.example': ['10.0.0.1', '::1'],
    'metadata.example': ['169.254.169.254'],
  });
  const port = new URL(upstream.storeUrl).port;
  const hosts = [
    ...[
      '127.0.0.1',
      '2130706433',
      '0x7f.1',
      '127.1',
      '0.0.0.0',
      'localhost',
      'a.localhost',
      '[::1]',
      '[::ffff:127.0.0.1]',
    ],
    ...[
      '[::ffff:7f00:1]',
      '[64:ff9b::7f00:1]',
      '127.0.0.2',
      '169.254.169.254',
      '10.0.0.1',
      '192.168.0.1',
      '[fd00::1]',
    ],
    ...['inside.example', 'mixed.example', 'metadata.example', 'inside.example.'],
  ];
  for (const host of hosts) {
    const to = `http://${host}:${port}/${repository}/${digest}`;
    const undo = upstream.misbehave({ kind: 'blob', does: { type: 'redirect', to } });
    const client = clientOf(t, under(upstream.url, 'registry.example'), { resolve, credentials: USER });
    const error = await failure(client.getBlob({ repository, digest: digest! }, soon()), 'BACKEND_DOWN');
    t.match(error.message, /redirect .* is at a .* address; .*redirect-hosts/, host);
    t.match(error.detail, { upstream: 'fake', reason: 'redirect-refused' }, host);
    undo();
  }
  t.same(upstream.requests('store'), [], 'nobody was asked');
});

t.test('a place that the operator listed is followed to, without credentials', async (t) => {
  const upstream = await startUpstream(t, { auth: { type: 'basic', ...USER } });
  upstream.push(repository, IMAGE, 'v1');
  const { resolve } = names({ 'registry.example': ['127.0.0.1'] });
  const { port } = new URL(upstream.storeUrl);
  upstream.misbehave({ kind: 'blob', does: { type: 'redirect' } });
  const client = (entry: string) =>
    clientOf(t, under(upstream.url, 'registry.example'), {
      resolve,
      credentials: USER,
      upstream: { 'redirect-hosts': [entry] },
    });
  for (const entry of ['127.0.0.1', `127.0.0.1:${port}`]) {
    upstream.log.length = 0;
    const listed = client(entry);
    await listed.getManifest(V1, soon());
    const { body } = await listed.getBlob({ repository, digest: digest! }, soon());
    t.equal((await readAll(body)).length, 3_000);
    t.equal(upstream.requests('store').length, 1);
    t.equal(upstream.requests('store')[0]?.authorization, undefined);
    t.match(upstream.requests('blob').at(-1)?.authorization, /^Basic /);
  }
  await failure(client('127.0.0.1:1').getBlob({ repository, digest: digest! }, soon()), 'BACKEND_DOWN');
});

t.test('what was looked up is what is dialled: a second answer never counts', async (t) => {
  const upstream = await startUpstream(t);
  upstream.push(repository, IMAGE, 'v1');
  let turn = 0;
  const resolve: Resolve = (hostname, done) => {
    if (hostname === 'registry.example') return done(null, [{ address: '127.0.0.1', family: 4 }]);
    turn += 1;
    // Public when it is looked at, here when it is dialled: where lookups are two, this gets in.
    done(null, [{ address: turn === 1 ? '192.0.2.1' : '127.0.0.1', family: 4 }]);
  };
  const to = `${under(upstream.storeUrl, 'rebind.example')}/${repository}/${digest}`;
  upstream.misbehave({ kind: 'blob', does: { type: 'redirect', to } });
  const client = clientOf(t, under(upstream.url, 'registry.example'), {
    resolve,
    options: { connectTimeoutMs: 300 },
  });
  await failure(client.getBlob({ repository, digest: digest! }, soon()), 'BACKEND_DOWN');
  t.equal(turn, 1);
  const error = await failure(client.getBlob({ repository, digest: digest! }, soon()), 'BACKEND_DOWN');
  t.equal(error.detail['reason'], 'redirect-refused');
  t.same(upstream.requests('store'), []);
});

t.test('a token service elsewhere on this machine is not asked', async (t) => {
  const upstream = await startUpstream(t, { auth: { type: 'token', ...USER } });
  upstream.push(repository, IMAGE, 'v1');
  const { resolve } = names({ 'registry.example': ['127.0.0.1'] });
  const client = clientOf(t, under(upstream.url, 'registry.example'), { resolve, credentials: USER });
  const error = await failure(client.getManifest(V1, soon()), 'UPSTREAM_DENIED');
  t.match(error.message, /token service 127\.0\.0\.1 .*realm-hosts/);
  t.same(upstream.requests('token'), []);
});

t.test(
  'a token service gets credentials on the host of its registry, in its domain, or where it is listed',
  async (t) => {
    const upstream = await startUpstream(t, { auth: { type: 'token', ...USER } });
    upstream.push(repository, IMAGE, 'v1');
    const own = clientOf(t, upstream.url, { credentials: USER });
    await own.getManifest(V1, soon());
    t.match(upstream.requests('token').at(-1)?.authorization, /^Basic /, 'another port of its host');
    const { resolve } = names({ 'registry.example': ['127.0.0.1'] });
    const listed = clientOf(t, under(upstream.url, 'registry.example'), {
      resolve,
      credentials: USER,
      upstream: { 'realm-hosts': ['127.0.0.1'] },
    });
    await listed.getManifest(V1, soon());
    t.match(upstream.requests('token').at(-1)?.authorization, /^Basic /, 'listed');
    t.equal(upstream.requests('token').length, 2);
  },
);

t.test('a token service that redirects to this machine is not followed', async (t) => {
  const upstream = await startUpstream(t, { auth: { type: 'token', ...USER } });
  upstream.push(repository, IMAGE, 'v1');
  const { resolve } = names({ 'registry.example': ['127.0.0.1'] });
  upstream.misbehave({
    kind: 'token',
    does: { type: 'status', status: 307, headers: { location: 'http://127.0.0.2:1/token' } },
  });
  const client = clientOf(t, under(upstream.url, 'registry.example'), {
    resolve,
    credentials: USER,
    upstream: { 'realm-hosts': ['127.0.0.1'] },
  });
  await failure(client.getManifest(V1, soon()), 'UPSTREAM_DENIED');
});

t.test('another port of the registry leads no further in than the registry itself is', async (t) => {
  const upstream = await startUpstream(t, { auth: { type: 'token', ...USER } });
  upstream.push(repository, IMAGE, 'v1');
  const registry = under(upstream.url, 'registry.example');
  let turn = 0;
  const resolve: Resolve = (_hostname, done) => {
    turn += 1;
    // The registry is at a documentation address that stands for a public one; its name leads here the next time.
    done(null, [{ address: turn === 1 ? '203.0.113.7' : '127.0.0.1', family: 4 }]);
  };
  const sockets = new UpstreamSockets(
    {
      upstream: 'x',
      home: { base: new URL(registry), redirectHosts: [], realmHosts: [] },
      proxyFor: () => undefined,
      resolve,
    },
    { connections: 1, connectTimeoutMs: 200, insecure: false },
  );
  t.teardown(() => sockets.destroy(new CodedError('DRAINING')));
  const get = async (url: string): Promise<unknown> =>
    await request(url, { dispatcher: sockets.for(new URL(url), 'redirect') });
  await t.rejects(get(`${under(upstream.storeUrl, 'registry.example')}/x`), { code: 'BACKEND_DOWN' });
  t.equal(turn, 2, 'where the registry is was asked first');
  t.same(upstream.log, []);
});

t.test(
  'a registry is reached where it was while its name server is silent, and not once its name is gone',
  async (t) => {
    const upstream = await startUpstream(t);
    const registry = under(upstream.url, 'registry.example');
    const answers: ((done: Parameters<Resolve>[1]) => void)[] = [
      (done) => done(null, [{ address: '127.0.0.1', family: 4 }]),
      (done) => waiting.push(done),
      (done) => done(Object.assign(new Error('failed'), { code: 'EAI_AGAIN' }), []),
      (done) => done(Object.assign(new Error('gone'), { code: 'ENOTFOUND' }), []),
    ];
    const waiting: Parameters<Resolve>[1][] = [];
    const told: object[] = [];
    const sockets = new UpstreamSockets(
      {
        upstream: 'x',
        home: { base: new URL(registry), redirectHosts: [], realmHosts: [] },
        proxyFor: () => undefined,
        resolve: (_hostname, done) => answers.shift()!(done),
        log: { warn: (facts) => void told.push(facts) },
      },
      { connections: 1, connectTimeoutMs: 3_000, insecure: false },
    );
    t.teardown(() => sockets.destroy(new CodedError('DRAINING')));
    const get = async (): Promise<number> => {
      const dispatcher = sockets.for(new URL(registry), 'redirect');
      const { statusCode, body } = await request(`${registry}/v2/`, { dispatcher, reset: true });
      await body.dump();
      return statusCode;
    };
    t.equal(await get(), 200);
    t.equal(await get(), 200, 'silent');
    waiting.pop()!(null, [{ address: '127.0.0.1', family: 4 }]);
    t.equal(await get(), 200, 'failing');
    t.match(told, [{ name: 'registry.example' }]);
    await t.rejects(get(), { code: 'ENOTFOUND' });
  },
);
