import { Readable } from 'node:stream';
import { MemberClock } from '@sepia/base/clock/member-clock';
import { CodedError } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import type { Context } from 'koa';
import t, { type Test } from 'tap';
import { request } from 'undici';
import { createApp, MAX_URL_CHARS } from '../src/app.ts';
import { InternalClient, type InternalRequest } from '../src/client.ts';
import { createGate } from '../src/gate.ts';
import { HttpListener } from '../src/listener.ts';
import { CallVerifier, hashOf, signCall } from '../src/sign.ts';
import { signOld } from '../src/sign-old.ts';
import { queryValue, readBody, readJson } from '../src/signed.ts';
import { createDispatcher } from '../src/sockets.ts';

const KEY = Buffer.alloc(32, 7);
/** A call whose body may be signed by its length. */
const STREAM = { method: 'PUT', path: '/v1/uploads/u?x=%2F1' } as const;

/** A member that runs `route` for signed calls, and a client that signs with `key`. */
async function member(
  t: Test,
  route: (ctx: Context) => Promise<void> | void,
  key: Uint8Array = KEY,
  oldSignatures = false,
) {
  const gate = createGate({
    open: {},
    verifier: new CallVerifier({ clusterKey: KEY, selfId: 'origin-1' }, { oldSignatures }),
  });
  const app = createApp({ log: silentLogger(), gate });
  app.use((ctx) => route(ctx));
  const listener = await HttpListener.start(app.callback(), '127.0.0.1:0', 'listen');
  const dispatcher = createDispatcher();
  t.teardown(async () => {
    await dispatcher.destroy();
    await listener.stop(0);
  });
  const memberId = 'agent-1';
  const deps = { dispatcher, clusterKey: key, memberId, clock: new MemberClock(), oldSignatures };
  const client = new InternalClient(deps);
  const call = (more: Partial<InternalRequest> = {}): InternalRequest => ({
    url: listener.url,
    to: 'origin-1',
    method: 'GET',
    path: '/v1/x',
    headersTimeoutMs: 5_000,
    ...more,
  });
  return { client, call, url: listener.url };
}

t.test('a signed call passes with any kind of body, and tells who called', async (t) => {
  const { client, call } = await member(t, async (ctx) => {
    ctx.body = {
      caller: ctx.state['caller'],
      body: (await readBody(ctx, 1000)).toString(),
      x: queryValue(ctx, 'x') ?? null,
    };
  });
  const post = (more: Partial<InternalRequest>) =>
    client.bytes(call({ method: 'POST', path: '/v1/x?x=%2F1', ...more }));
  for (const [name, more, expected] of [
    ['none', {}, ''],
    ['text', { body: 'häh' }, 'häh'],
    ['bytes', { body: Buffer.from('abc') }, 'abc'],
    ['stream', { ...STREAM, body: Readable.from([Buffer.from('ab'), Buffer.from('c')]) }, 'abc'],
    [
      'stream of known length',
      { ...STREAM, body: Readable.from([Buffer.from('abc')]), headers: { 'content-length': '3' } },
      'abc',
    ],
  ] as const) {
    const { bytes } = await post(more);
    t.same(JSON.parse(bytes.toString()), { caller: 'agent-1', body: expected, x: '/1' }, name);
  }
});

t.test('an unsigned call, or one of another cluster, is refused before the route', async (t) => {
  let reached = false;
  const stranger = await member(
    t,
    () => {
      reached = true;
    },
    Buffer.alloc(32, 8),
  );
  await t.rejects(stranger.client.call(stranger.call()), { code: 'SIGNATURE_INVALID' });
  const plain = await request(`${stranger.url}/v1/x`);
  t.equal(plain.statusCode, 403);
  t.match(await plain.body.json(), { errors: [{ code: 'DENIED' }] });
  t.notOk(reached);
});

t.test('a call is taken as it was signed: not elsewhere, not changed, not twice', async (t) => {
  let reached = 0;
  const { client, call, url } = await member(t, async (ctx) => {
    await readBody(ctx, 1000);
    reached += 1;
  });
  const refused = async (more: Partial<InternalRequest>): Promise<void> =>
    void (await t.rejects(client.call(call({ method: 'POST', ...more })), { code: 'SIGNATURE_INVALID' }));
  await refused({ to: 'origin-2' });
  await refused({ body: Readable.from([Buffer.from('abc')]) });
  await refused({ body: Readable.from([Buffer.from('abc')]), headers: { 'content-length': '3' } });
  t.equal(reached, 0);

  const recorded = { method: 'POST', path: '/v1/x', headers: { 'sepia-hop': '1' }, body: hashOf('abc') };
  const signed = (): Record<string, string> => ({
    'sepia-hop': '1',
    authorization: signCall({ clusterKey: KEY, id: 'agent-1' }, 'origin-1', recorded, Date.now()),
  });
  const send = async (headers: Record<string, string>, body: string): Promise<number> => {
    const answer = await request(`${url}/v1/x`, { method: 'POST', headers, body });
    await answer.body.dump();
    return answer.statusCode;
  };
  t.equal(await send(signed(), 'abd'), 403, 'another body');
  t.equal(await send(signed(), ''), 403, 'no body');
  t.equal(await send(signed(), 'abcd'), 403, 'a longer body');
  t.equal(await send({ ...signed(), 'sepia-hop': '0' }, 'abc'), 403, 'another header');
  t.equal(await send({ ...signed(), 'sepia-class': 'pushed' }, 'abc'), 403, 'one header more');
  t.equal(reached, 0);
  const once = signed();
  t.equal(await send(once, 'abc'), 404, 'as it was signed');
  t.equal(await send(once, 'abc'), 403, 'again');
  t.equal(reached, 1);
});

t.test('members of the former version are understood while that is allowed', async (t) => {
  const paths: string[] = [];
  const route = (ctx: Context): void => {
    paths.push(`${ctx.state['caller']} ${ctx.path}`);
    ctx.body = '{}';
  };
  const { client, call, url } = await member(t, route, KEY, true);
  await client.call(call({ path: '/v1/new' }));
  const old = signOld(
    { clusterKey: KEY, id: 'a-0' },
    { method: 'GET', path: '/v1/old', bodyBytes: 0 },
    Date.now(),
  );
  const answer = await request(`${url}/v1/old`, { headers: { authorization: old } });
  await answer.body.dump();
  t.equal(answer.statusCode, 200);
  t.same(paths, ['agent-1 /v1/new', 'a-0 /v1/old']);
});

t.test('errors come back as the code that the other member threw, with detail', async (t) => {
  const { client, call } = await member(t, (ctx) => {
    if (ctx.query['bug'] !== undefined) throw new Error('secret of the inside');
    throw new CodedError('UPSTREAM_LIMITED', {
      message: 'slow down',
      detail: { retryAfterSeconds: 7, upstream: 'hub' },
    });
  });
  await t.rejects(client.call(call()), {
    code: 'UPSTREAM_LIMITED',
    message: 'slow down',
    detail: { retryAfterSeconds: 7, upstream: 'hub', status: 503 },
  });
  t.equal((await client.raw(call())).headers['retry-after'], '7');
  const bug = (await client.call(call({ path: '/v1/x?bug' })).catch((error: unknown) => error)) as CodedError;
  t.match(bug, { code: 'INTERNAL', message: 'internal error' });
  t.notMatch(JSON.stringify(bug), /secret/);
  const head = await client.raw(call({ method: 'HEAD' }));
  t.equal(head.status, 503);
  t.equal(head.headers['sepia-error'], 'UPSTREAM_LIMITED');
});

t.test('no answer, a late one, a cut one, a big one and bad JSON are PEER_HTTP', async (t) => {
  const { client, call } = await member(t, async (ctx) => {
    if (ctx.path === '/late') await new Promise((resolve) => ctx.req.socket.once('close', resolve));
    else if (ctx.path === '/cut') {
      ctx.respond = false;
      ctx.res.writeHead(200, { 'content-length': '10' });
      ctx.res.write('abc', () => ctx.res.destroy());
    } else ctx.body = 'x'.repeat(100);
  });
  const peer = { code: 'PEER_HTTP' };
  await t.rejects(client.call(call({ url: 'http://127.0.0.1:1' })), {
    ...peer,
    detail: { url: 'http://127.0.0.1:1' },
  });
  await t.rejects(client.call(call({ path: '/late', headersTimeoutMs: 50 })), peer);
  await t.rejects(client.bytes(call({ path: '/cut' })), { ...peer, message: /was cut/ });
  await t.rejects(client.bytes(call(), 99), {
    ...peer,
    message: /larger than 99/,
    detail: { status: 200, limitBytes: 99 },
  });
  await t.rejects(client.json(call()), { ...peer, message: /bad JSON/ });
  const reason = new Error('enough');
  await t.rejects(client.call(call({ signal: AbortSignal.abort(reason) })), reason);
});

t.test('bodies and queries that are too much are refused', async (t) => {
  const { client, call } = await member(t, async (ctx) => {
    queryValue(ctx, 'n');
    ctx.body = await readJson(ctx, 10, (value) => value);
  });
  t.same(await client.json({ ...call({ method: 'POST' }), json: { a: 1 } }), { a: 1 });
  await t.rejects(client.call(call({ method: 'POST', body: '{"a":"long"}' })), { code: 'REQUEST_TOO_LARGE' });
  await t.rejects(client.call(call({ ...STREAM, body: Readable.from([Buffer.alloc(6), Buffer.alloc(6)]) })), {
    code: 'REQUEST_TOO_LARGE',
  });
  await t.rejects(client.call(call({ method: 'POST', body: '{' })), { code: 'REQUEST_INVALID' });
  await t.rejects(client.call(call({ method: 'POST', body: '{}', path: '/v1/x?n=1&n=2' })), {
    code: 'REQUEST_INVALID',
    message: 'n is given twice',
  });
  await t.rejects(client.call(call({ path: `/v1/x?${'y'.repeat(MAX_URL_CHARS)}` })), {
    code: 'REQUEST_INVALID',
  });
});

t.test('a route that nobody answers is an OCI error, and each answer has a request id', async (t) => {
  const { client, call } = await member(t, () => undefined);
  await t.rejects(client.call(call()), { code: 'ROUTE_UNKNOWN', detail: { path: '/v1/x' } });
  const given = await client.raw(call({ headers: { 'x-request-id': 'abc-1' } }));
  t.equal(given.headers['x-request-id'], 'abc-1');
  const forged = await client.raw(call({ headers: { 'x-request-id': 'a b<script>' } }));
  t.match(forged.headers['x-request-id'], /^[0-9a-f-]{36}$/);
  t.equal(forged.headers['sepia-version'], '2');
});
