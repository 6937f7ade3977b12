import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import { pipeline } from 'node:stream';
import { CodedError, isCoded } from '@sepia/base/errors';
import { HttpListener } from '@sepia/http/listener';
import { noIpv6 } from '@sepia/test-support/ipv6';
import { type Misbehaviour, makeImage, seededBytes } from '@sepia/test-support/upstream/fake-upstream';
import { FAKE_TLS } from '@sepia/test-support/upstream/fake-upstream-tls';
import t from 'tap';
import { UPSTREAM_CLIENT_DEFAULTS } from '../src/queries.ts';
import {
  clientOf,
  failure,
  readAll,
  reference,
  REPOSITORY as repository,
  soon,
  startUpstream,
} from './client-fixture.ts';

const BYTES = seededBytes(300_000, 'faults');
const IMAGE = makeImage({ layers: [10], seed: 'faults' });
const V1 = { repository, reference: reference('v1') };

t.test('a body that is cut, silent, or short fails as the backend, after the bytes that came', async (t) => {
  const cases: [Misbehaviour, string][] = [
    [{ type: 'cut', afterBytes: 100_000 }, 'UND_ERR_SOCKET'],
    [{ type: 'stall', afterBytes: 100_000 }, 'UND_ERR_BODY_TIMEOUT'],
    [{ type: 'wrong-length', by: 5 }, 'UND_ERR_SOCKET'],
  ];
  for (const [does, reason] of cases) {
    const upstream = await startUpstream(t);
    const digest = upstream.addBlob(repository, BYTES);
    upstream.misbehave({ does });
    const { body } = await clientOf(t, upstream.url).getBlob({ repository, digest }, soon());
    let found = 0;
    const error = await failure(
      (async () => {
        for await (const chunk of body) found += chunk.length;
      })(),
      'BACKEND_DOWN',
    );
    t.equal(error.detail['reason'], reason, does.type);
    t.equal(found, does.type === 'wrong-length' ? BYTES.length : 100_000, does.type);
  }
});

t.test('a chunked body that is cut fails too', async (t) => {
  const upstream = await startUpstream(t);
  const digest = upstream.addBlob(repository, BYTES);
  upstream.misbehave({ does: { type: 'chunked' } });
  upstream.misbehave({ does: { type: 'cut', afterBytes: 1000 } });
  const { body } = await clientOf(t, upstream.url).getBlob({ repository, digest }, soon());
  await failure(readAll(body), 'BACKEND_DOWN');
});

t.test('a part that is longer or shorter than its Content-Range is not believed', async (t) => {
  for (const [sent, code, taken] of [
    [8, 'UPSTREAM_LIES', 0],
    [3, 'BACKEND_DOWN', 3],
  ] as const) {
    const listener = await HttpListener.start(
      (_req, res) => {
        res.writeHead(206, { 'content-range': 'bytes 5-9/100' });
        res.end(Buffer.alloc(sent));
      },
      '127.0.0.1:0',
      'listen',
    );
    t.teardown(() => listener.stop(0));
    const { body } = await clientOf(t, listener.url).getBlob(
      { repository, digest: IMAGE.config, range: { start: 5, end: 9 } },
      soon(),
    );
    let found = 0;
    const read = async (): Promise<void> => {
      for await (const chunk of body) found += chunk.length;
    };
    await failure(read(), code);
    t.equal(found, taken, `${sent} bytes for 5`);
  }
});

t.test(
  'a server that knows no ranges is told apart from one that has no blob; 203 is an answer',
  async (t) => {
    const heads = (status: number): Record<string, string> =>
      status === 200 || status === 203 ? { 'content-length': '100' } : {};
    let status = 400;
    const listener = await HttpListener.start(
      (_req, res) => {
        res.writeHead(status, heads(status));
        res.end(Buffer.alloc(status === 203 ? 100 : 5));
      },
      '127.0.0.1:0',
      'listen',
    );
    t.teardown(() => listener.stop(0));
    const client = clientOf(t, listener.url);
    const asked = { repository, digest: IMAGE.config, range: { start: 5, end: 9 } };
    // 206 has no Content-Range here.
    for (status of [400, 501, 206]) await failure(client.getBlob(asked, soon()), 'RANGE_INVALID');
    status = 501;
    await failure(client.getBlob({ repository, digest: IMAGE.config }, soon()), 'BACKEND_DOWN');
    status = 203;
    const whole = await client.getBlob({ repository, digest: IMAGE.config }, soon());
    t.equal(whole.sizeBytes, 100);
    t.equal((await readAll(whole.body)).length, 100);
  },
);

t.test('the deadlines of the design are the defaults', async (t) => {
  t.match(UPSTREAM_CLIENT_DEFAULTS, {
    connectTimeoutMs: 3_000,
    headersTimeoutMs: 10_000,
    bodyTimeoutMs: 10_000,
  });
});

t.test('a slow body with progress is not cut', async (t) => {
  const upstream = await startUpstream(t);
  const digest = upstream.addBlob(repository, BYTES);
  upstream.misbehave({ does: { type: 'slow', bytesPerSec: 400_000 } });
  const { body } = await clientOf(t, upstream.url, { options: { bodyTimeoutMs: 250 } }).getBlob(
    { repository, digest },
    soon(),
  );
  t.ok(BYTES.equals(await readAll(body)));
});

t.test('a slow reader is not a silent upstream', async (t) => {
  const upstream = await startUpstream(t);
  const bytes = seededBytes(8_000_000, 'slow reader');
  const digest = upstream.addBlob(repository, bytes);
  // A test that is held up so long itself is silent as well.
  const bodyTimeoutMs = 1_000;
  const { body } = await clientOf(t, upstream.url, { options: { bodyTimeoutMs } }).getBlob(
    { repository, digest },
    soon(),
  );
  let found = 0;
  for await (const chunk of body) {
    if (found === 0) await new Promise((resolve) => setTimeout(resolve, 2 * bodyTimeoutMs));
    found += chunk.length;
  }
  t.equal(found, bytes.length);
});

t.test('no answer, no connection: the backend is down', async (t) => {
  const upstream = await startUpstream(t);
  upstream.push(repository, IMAGE, 'v1');
  const hasty = clientOf(t, upstream.url, { options: { headersTimeoutMs: 200 } });
  const client = clientOf(t, upstream.url, { options: { headersTimeoutMs: 60_000 } });
  const undo = upstream.misbehave({ does: { type: 'silent' } });
  t.equal((await failure(hasty.getManifest(V1, soon()), 'BACKEND_DOWN')).detail['reason'], 'timeout');
  undo();
  await upstream.down();
  const refused = await failure(client.getManifest(V1, soon()), 'BACKEND_DOWN');
  t.equal(refused.detail['reason'], 'ECONNREFUSED');
  t.match(refused.message, new RegExp(`${upstream.host}: connection refused`));
  await upstream.up();
  t.ok(await client.getManifest(V1, soon()), 'works again');
});

t.test('a connection that was closed before it answered is tried once more', async (t) => {
  const upstream = await startUpstream(t);
  upstream.push(repository, IMAGE, 'v1');
  const client = clientOf(t, upstream.url);
  upstream.misbehave({ times: 1, does: { type: 'reset' } });
  t.ok(await client.getManifest(V1, soon()));
  t.equal(upstream.log.length, 2);
  upstream.misbehave({ times: 2, does: { type: 'reset' } });
  await failure(client.getManifest(V1, soon()), 'BACKEND_DOWN');
  t.equal(upstream.log.length, 4);
});

t.test('5xx is the backend; odd statuses are coded too', async (t) => {
  const cases = [
    [500, 'BACKEND_DOWN'],
    [502, 'BACKEND_DOWN'],
    [503, 'BACKEND_DOWN'],
    [204, 'BACKEND_DOWN'],
    [304, 'BACKEND_DOWN'],
    [408, 'BACKEND_DOWN'],
    [400, 'UPSTREAM_DENIED'],
    [406, 'UPSTREAM_DENIED'],
    [451, 'UPSTREAM_DENIED'],
  ] as const;
  for (const [status, code] of cases) {
    const upstream = await startUpstream(t);
    upstream.push(repository, IMAGE, 'v1');
    upstream.misbehave({
      does: {
        type: 'status',
        status,
        headers: { 'retry-after': '3' },
        body: status === 204 || status === 304 ? '' : '{}',
      },
    });
    const error = await failure(clientOf(t, upstream.url).getManifest(V1, soon()), code);
    t.equal(error.detail['status'], status);
    t.equal(error.detail['retryAfterSeconds'], code === 'BACKEND_DOWN' ? 3 : undefined);
  }
});

t.test('429 pauses requests of that kind, and only those, until Retry-After is over', async (t) => {
  const upstream = await startUpstream(t);
  upstream.push(repository, IMAGE, 'v1');
  upstream.misbehave({
    kind: 'manifest',
    method: 'GET',
    times: 1,
    does: { type: 'status', status: 429, headers: { 'retry-after': '5' } },
  });
  let nowMs = 50_000;
  const client = clientOf(t, upstream.url, { nowMs: () => nowMs });
  t.equal((await failure(client.getManifest(V1, soon()), 'UPSTREAM_LIMITED')).detail['retryAfterSeconds'], 5);
  nowMs += 3_500;
  t.equal((await failure(client.getManifest(V1, soon()), 'UPSTREAM_LIMITED')).detail['retryAfterSeconds'], 2);
  t.equal(upstream.requests('manifest', 'GET').length, 1, 'the second was not sent');
  t.ok(await client.headManifest(V1, soon()));
  t.ok(await client.headBlob({ repository, digest: IMAGE.config }, soon()));
  nowMs += 1_600;
  t.ok(await client.getManifest(V1, soon()));
});

t.test('who waits for a place while a 429 comes does not ask any more', async (t) => {
  const upstream = await startUpstream(t);
  const digest = upstream.addBlob(repository, BYTES);
  const headers = { 'retry-after': '300', 'content-type': 'application/json' };
  const does = { type: 'status', status: 429, headers, body: '{}' } as const;
  upstream.misbehave({ kind: 'blob', does });
  const client = clientOf(t, upstream.url, { upstream: { 'max-connections': 1 } });
  for (const [count, ask] of [
    async () => await client.headBlob({ repository, digest }, soon()),
    async () => await client.getBlob({ repository, digest }, soon()),
  ].entries()) {
    const outcomes = await Promise.allSettled([ask(), ask(), ask()]);
    for (const one of outcomes) t.match(one, { reason: { code: 'UPSTREAM_LIMITED' } });
    t.equal(upstream.log.length, count + 1, 'one alone was sent');
  }
});

t.test('a long Retry-After of one repository closes that one, the others for 10 s at most', async (t) => {
  const upstream = await startUpstream(t);
  const other = 'team/other' as typeof repository;
  for (const name of [repository, other]) upstream.push(name, IMAGE, 'v1');
  upstream.misbehave({
    kind: 'manifest',
    method: 'GET',
    times: 1,
    does: { type: 'status', status: 429, headers: { 'retry-after': '999999' } },
  });
  let nowMs = 50_000;
  const client = clientOf(t, upstream.url, { nowMs: () => nowMs });
  const { detail } = await failure(client.getManifest(V1, soon()), 'UPSTREAM_LIMITED');
  t.ok(Number(detail['retryAfterSeconds']) <= 600);
  await failure(client.getManifest({ ...V1, repository: other }, soon()), 'UPSTREAM_LIMITED');
  nowMs += 10_001;
  t.ok(await client.getManifest({ ...V1, repository: other }, soon()));
  await failure(client.getManifest(V1, soon()), 'UPSTREAM_LIMITED');
  nowMs += 600_000;
  t.ok(await client.getManifest(V1, soon()));
});

t.test('an abort ends a request, a wait and a body with the reason given', async (t) => {
  const upstream = await startUpstream(t);
  const digest = upstream.addBlob(repository, BYTES);
  upstream.misbehave({ does: { type: 'stall', afterBytes: 1000 } });
  const client = clientOf(t, upstream.url, {
    options: { bodyTimeoutMs: 60_000 },
    upstream: { 'max-connections': 1 },
  });
  const reason = new CodedError('TIMEOUT', { message: 'enough' });
  const first = new AbortController();
  const { body } = await client.getBlob({ repository, digest }, first.signal);
  const waiting = new AbortController();
  const queued = client.getBlob({ repository, digest }, waiting.signal);
  waiting.abort(reason);
  await t.rejects(queued, reason);
  const read = readAll(body);
  first.abort(reason);
  await t.rejects(read, reason);
  await t.rejects(client.getBlob({ repository, digest }, AbortSignal.abort(reason)), reason);
});

t.test('never more connections than max-connections; waiters get theirs in turn', async (t) => {
  const upstream = await startUpstream(t);
  const digest = upstream.addBlob(repository, BYTES);
  const client = clientOf(t, upstream.url, { upstream: { 'max-connections': 2 } });
  const open = await Promise.all([
    client.getBlob({ repository, digest }, soon()),
    client.getBlob({ repository, digest }, soon()),
  ]);
  const third = client.getBlob({ repository, digest }, soon());
  const early = await Promise.race([third, new Promise((resolve) => setTimeout(resolve, 100, 'waits'))]);
  t.equal(early, 'waits');
  t.equal(upstream.log.length, 2);
  open[0].body.destroy();
  t.ok(BYTES.equals(await readAll((await third).body)));
  open[1].body.destroy();
});

t.test('a full queue and a long wait are told as a limit', async (t) => {
  const upstream = await startUpstream(t);
  const digest = upstream.addBlob(repository, BYTES);
  const client = clientOf(t, upstream.url, {
    upstream: { 'max-connections': 1 },
    options: { queueLimit: 1, queueTimeoutMs: 150 },
  });
  const { body } = await client.getBlob({ repository, digest }, soon());
  const waits = failure(client.getBlob({ repository, digest }, soon()), 'UPSTREAM_LIMITED');
  const error = await failure(client.getBlob({ repository, digest }, soon()), 'UPSTREAM_LIMITED');
  t.match(error.message, /too many requests wait/);
  t.match((await waits).message, /became free/);
  body.destroy();
});

t.test('ca is trusted, insecure trusts all, neither trusts nothing', async (t) => {
  const upstream = await startUpstream(t, { tls: FAKE_TLS });
  upstream.push(repository, IMAGE, 'v1');
  t.ok(await clientOf(t, upstream.url, { ca: FAKE_TLS.cert }).getManifest(V1, soon()));
  const file = `${t.testdir({ 'ca.pem': FAKE_TLS.cert })}/ca.pem`;
  t.ok(await clientOf(t, upstream.url, { upstream: { ca: file } }).getManifest(V1, soon()));
  t.ok(await clientOf(t, upstream.url, { upstream: { insecure: true } }).getManifest(V1, soon()));
  const error = await failure(clientOf(t, upstream.url).getManifest(V1, soon()), 'BACKEND_DOWN');
  t.match(error.message, /certificate is not trusted.*set ca/);
  t.throws(() => clientOf(t, upstream.url, { upstream: { ca: `${file}.gone` } }), {
    code: 'CONFIG_INVALID',
    message: /ca of fake/,
  });
});

t.test('https is not left for http, by redirect or by token realm', async (t) => {
  const upstream = await startUpstream(t, {
    tls: FAKE_TLS,
    auth: { type: 'token', username: 'u', password: 'p' },
  });
  upstream.push(repository, IMAGE, 'v1');
  const strict = clientOf(t, upstream.url, {
    ca: FAKE_TLS.cert,
    credentials: { username: 'u', password: 'p' },
  });
  await failure(strict.getManifest(V1, soon()), 'UPSTREAM_DENIED');
  t.equal(upstream.requests('token').length, 0, 'the password did not go out in plain');
  upstream.misbehave({ kind: 'blob', does: { type: 'redirect' } });
  const lax = clientOf(t, upstream.url, {
    upstream: { insecure: true },
    credentials: { username: 'u', password: 'p' },
  });
  t.ok(await lax.getManifest(V1, soon()));
  const open = await startUpstream(t, { tls: FAKE_TLS });
  open.push(repository, IMAGE, 'v1');
  open.misbehave({ does: { type: 'redirect', to: upstream.storeUrl } });
  const error = await failure(
    clientOf(t, open.url, { ca: FAKE_TLS.cert }).getManifest(V1, soon()),
    'BACKEND_DOWN',
  );
  t.match(error.message, /leaves https/);
});

t.test('a closed client refuses, and ends what is under way', async (t) => {
  const upstream = await startUpstream(t);
  const digest = upstream.addBlob(repository, BYTES);
  upstream.misbehave({ does: { type: 'stall', afterBytes: 1000 } });
  const client = clientOf(t, upstream.url, { options: { bodyTimeoutMs: 60_000 } });
  const { body } = await client.getBlob({ repository, digest }, soon());
  const read = readAll(body).catch((error: unknown) => error);
  await client.close();
  await client.close();
  t.ok(isCoded(await read), 'coded');
  await failure(client.getBlob({ repository, digest }, soon()), 'DRAINING');
});

t.test('mode none has nothing to read from', async (t) => {
  t.throws(() => clientOf(t, '', { upstream: { url: undefined, mode: 'none' } }), {
    code: 'CONFIG_INVALID',
    message: /mode none/,
  });
});

t.test('an upstream at an IPv6 address over plain HTTP', { skip: noIpv6() }, async (t) => {
  const upstream = await startUpstream(t);
  upstream.push(repository, IMAGE, 'v1');
  const { hostname, port } = new URL(upstream.url);
  const server = createServer((socket) => {
    const inner = connect(Number(port), hostname);
    pipeline(socket, inner, socket, () => undefined);
  });
  server.listen(0, '::1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  const client = clientOf(t, `http://[::1]:${(server.address() as AddressInfo).port}`);
  t.ok((await client.getManifest(V1, soon())).bytes.length > 0);
  const [digest] = IMAGE.layers;
  const { body } = await client.getBlob({ repository, digest: digest! }, soon());
  t.equal((await readAll(body)).length, 10);
});
