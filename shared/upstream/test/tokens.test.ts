import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { makeImage } from '@sepia/test-support/upstream/fake-upstream';
import t, { type Test } from 'tap';
import {
  clientOf,
  failure,
  reference,
  REPOSITORY as repository,
  soon,
  startUpstream,
} from './client-fixture.ts';

const IMAGE = makeImage({ layers: [1_000], seed: 'tokens' });
const USER = { username: 'robot', password: 's3cret' };
const V1 = { repository, reference: reference('v1') };

t.test(
  'a token that was refused on use is not used again, a right that is granted counts at once',
  async (t) => {
    let granted = false;
    const upstream = await startUpstream(t, {
      auth: { type: 'token', users: { robot: USER.password }, mayPull: () => granted },
    });
    upstream.push(repository, IMAGE, 'v1');
    const client = clientOf(t, upstream.url, { credentials: USER });
    await failure(client.getManifest(V1, soon()), 'UPSTREAM_DENIED');
    await failure(client.getManifest(V1, soon()), 'UPSTREAM_DENIED');
    granted = true;
    t.ok(await client.getManifest(V1, soon()));
  },
);

t.test('403 and, after a while, 404 end a token too: some registries hide so what is private', async (t) => {
  const upstream = await startUpstream(t, { auth: { type: 'token', ...USER } });
  upstream.push(repository, IMAGE, 'v1');
  let nowMs = 0;
  const client = clientOf(t, upstream.url, { credentials: USER, nowMs: () => nowMs });
  await client.getManifest(V1, soon());
  upstream.misbehave({ kind: 'manifest', times: 1, does: { type: 'status', status: 403 } });
  await failure(client.getManifest(V1, soon()), 'UPSTREAM_DENIED');
  t.equal(upstream.requests('token').length, 1);
  await client.getManifest(V1, soon());
  t.equal(upstream.requests('token').length, 2, 'a new one for the next request');
  const unknown = { repository, reference: reference('nothing') };
  await failure(client.getManifest(unknown, soon()), 'MANIFEST_UNKNOWN');
  await client.getManifest(V1, soon());
  t.equal(upstream.requests('token').length, 2, 'a fresh one stays');
  nowMs += 40_000;
  await failure(client.getManifest(unknown, soon()), 'MANIFEST_UNKNOWN');
  await client.getManifest(V1, soon());
  t.equal(upstream.requests('token').length, 3);
});

t.test('a token that has expired is renewed where the registry calls it a bad request', async (t) => {
  const upstream = await startUpstream(t, { auth: { type: 'token', ...USER } });
  upstream.push(repository, IMAGE, 'v1');
  let nowMs = 0;
  const client = clientOf(t, upstream.url, { credentials: USER, nowMs: () => nowMs });
  await client.getManifest(V1, soon());
  upstream.misbehave({ kind: 'manifest', times: 1, does: { type: 'status', status: 400 } });
  await failure(client.getManifest(V1, soon()), 'UPSTREAM_DENIED');
  t.equal(upstream.requests('token').length, 1, 'a fresh one is not the reason');
  nowMs += 40_000;
  upstream.misbehave({ kind: 'manifest', times: 1, does: { type: 'status', status: 400 } });
  t.ok(await client.getManifest(V1, soon()));
  t.equal(upstream.requests('token').length, 2);
  nowMs += 40_000;
  upstream.misbehave({ kind: 'manifest', times: 2, does: { type: 'status', status: 400 } });
  await failure(client.getManifest(V1, soon()), 'UPSTREAM_DENIED');
  t.equal(upstream.requests('token').length, 3, 'once');
});

interface Registry {
  readonly url: string;
  readonly asked: string[];
  /** Path of the token service; requests need its tokens unless `open`. */
  realm: string;
  open: boolean;
}

/** A registry whose token service is at a path of its own that may change. */
async function startRegistry(t: Test): Promise<Registry> {
  const state = { url: '', asked: [] as string[], realm: '/token', open: false };
  const serve = (request: IncomingMessage, response: ServerResponse): void => {
    const { pathname } = new URL(request.url ?? '/', 'http://x');
    const { authorization } = request.headers;
    state.asked.push(`${request.method} ${pathname} ${authorization?.split(' ')[0] ?? '-'}`);
    if (pathname === state.realm)
      return void response.end(JSON.stringify({ token: `of${state.realm.length}`, expires_in: 1 }));
    if (!pathname.startsWith('/v2/')) return void response.writeHead(404).end('404 page not found');
    if (!state.open && authorization !== `Bearer of${state.realm.length}`) {
      const challenge = `Bearer realm="${state.url}${state.realm}",service="reg"`;
      return void response.writeHead(401, { 'www-authenticate': challenge }).end();
    }
    const { bytes, mediaType } = IMAGE.manifest;
    response.writeHead(200, { 'content-type': mediaType }).end(bytes);
  };
  const server = createServer(serve);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  state.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return state;
}

t.test('a token service that moves, or is needed no more, is found out by asking the registry', async (t) => {
  const registry = await startRegistry(t);
  let nowMs = 0;
  const client = clientOf(t, registry.url, { credentials: USER, nowMs: () => nowMs });
  await client.getManifest(V1, soon());
  registry.realm = '/service/token';
  nowMs += 60_000;
  registry.asked.length = 0;
  t.ok(await client.getManifest(V1, soon()), 'moved');
  t.same(registry.asked, [
    'GET /token Basic',
    'GET /v2/library/app/manifests/v1 -',
    'GET /service/token Basic',
    'GET /v2/library/app/manifests/v1 Bearer',
  ]);
  registry.open = true;
  registry.realm = '/nowhere';
  nowMs += 60_000;
  t.ok(await client.getManifest(V1, soon()), 'open');
  registry.asked.length = 0;
  t.ok(await client.getManifest(V1, soon()));
  t.same(registry.asked, ['GET /v2/library/app/manifests/v1 -'], 'learned');
});

t.test('a token service that fails is asked once for a request, never twice with a password', async (t) => {
  const upstream = await startUpstream(t, { auth: { type: 'token', ...USER } });
  upstream.push(repository, IMAGE, 'v1');
  let nowMs = 0;
  const client = clientOf(t, upstream.url, { credentials: USER, nowMs: () => nowMs });
  await client.getManifest(V1, soon());
  nowMs += 3_600_000;
  for (const does of [
    { type: 'status', status: 404 },
    { type: 'status', status: 500 },
    { type: 'reset' },
  ] as const) {
    const before = upstream.requests('token').length;
    const undo = upstream.misbehave({ kind: 'token', does });
    await failure(client.getManifest(V1, soon()), 'BACKEND_DOWN');
    t.equal(upstream.requests('token').length, before + 1, JSON.stringify(does));
    undo();
  }
  t.ok(await client.getManifest(V1, soon()), 'works as soon as it does');
});

t.test(
  'a gateway before the token service that fails once is asked once more, in nobody’s name alone',
  async (t) => {
    for (const [auth, setup, asked] of [
      [{ type: 'token' }, {}, 2],
      [{ type: 'token', ...USER }, { credentials: USER }, 1],
    ] as const) {
      const upstream = await startUpstream(t, { auth });
      upstream.push(repository, IMAGE, 'v1');
      upstream.misbehave({ kind: 'token', times: 1, does: { type: 'status', status: 502 } });
      const client = clientOf(t, upstream.url, setup);
      if (asked === 2) await client.getManifest(V1, soon());
      else await failure(client.getManifest(V1, soon()), 'BACKEND_DOWN');
      t.equal(upstream.requests('token').length, asked);
    }
  },
);

t.test('a wrong password of our own is shown less and less often, a new one at once', async (t) => {
  const upstream = await startUpstream(t, { auth: { type: 'token', ...USER } });
  upstream.push(repository, IMAGE, 'v1');
  let nowMs = 0;
  let password = 'wrong';
  const credentials = {
    current: () => Promise.resolve({ username: USER.username, password }),
    refused: () => undefined,
  };
  const client = clientOf(t, upstream.url, { identity: { credentials }, nowMs: () => nowMs });
  for (let at = 0; at < 60; at++) {
    await failure(client.getManifest(V1, soon()), 'UPSTREAM_DENIED');
    nowMs += 1_000;
  }
  t.equal(upstream.requests('token').length, 4, 'at 0, 5, 15 and 35 s');
  password = USER.password;
  t.ok(await client.getManifest(V1, soon()));
});

t.test('a web page at /v2/ does not say that everybody may come in', async (t) => {
  const upstream = await startUpstream(t);
  const client = clientOf(t, upstream.url);
  t.equal(await client.baseChallenge(soon()), undefined, 'the registry itself does');
  const headers = { 'content-type': 'text/html' };
  upstream.misbehave({ kind: 'base', does: { type: 'status', status: 200, headers, body: '<html>' } });
  const error = await failure(client.baseChallenge(soon()), 'BACKEND_DOWN');
  t.match(error.message, /answered 200 with a web page/);
});
