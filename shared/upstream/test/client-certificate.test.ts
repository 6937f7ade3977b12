import { writeFileSync } from 'node:fs';
import { createServer, type RequestListener, type Server } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { type AddressInfo, connect } from 'node:net';
import { join } from 'node:path';
import type { TLSSocket } from 'node:tls';
import { CodedError } from '@sepia/base/errors';
import { makeImage } from '@sepia/test-support/upstream/fake-upstream';
import { FAKE_TLS, RENEWED_TLS } from '@sepia/test-support/upstream/fake-upstream-tls';
import t, { type Test } from 'tap';
import { request } from 'undici';
import { UpstreamSockets } from '../src/sockets.ts';
import { clientOf, failure, REPOSITORY, readAll, reference, soon, startUpstream } from './client-fixture.ts';

const IMAGE = makeImage({ layers: [30_000], seed: 'certified' });
const V1 = { repository: REPOSITORY, reference: reference('v1') };
const SHOWN = { certificate: FAKE_TLS.cert, key: FAKE_TLS.key };
/** A registry that speaks only to who shows a certificate that it trusts. */
const ASKS = { ...FAKE_TLS, ca: FAKE_TLS.cert, requestCert: true, rejectUnauthorized: true } as const;

async function listening(t: Test, server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

t.test('a registry that asks for a certificate is read by who has one', async (t) => {
  const upstream = await startUpstream(t, { tls: ASKS });
  upstream.push(REPOSITORY, IMAGE, 'v1');
  const client = clientOf(t, upstream.url, { ca: FAKE_TLS.cert, identity: SHOWN });
  t.ok(await client.getManifest(V1, soon()));
  const { body } = await client.getBlob({ repository: REPOSITORY, digest: IMAGE.layers[0]! }, soon());
  t.equal((await readAll(body)).length, 30_000);
});

t.test('who has none does not reach it', async (t) => {
  const upstream = await startUpstream(t, { tls: ASKS });
  upstream.push(REPOSITORY, IMAGE, 'v1');
  await failure(clientOf(t, upstream.url, { ca: FAKE_TLS.cert }).getManifest(V1, soon()), 'BACKEND_DOWN');
  t.same(upstream.log, []);
});

t.test('the certificate is shown to the registry, not to storage elsewhere', async (t) => {
  const say: RequestListener = (req, res) => {
    const { subject } = (req.socket as TLSSocket).getPeerCertificate();
    res.end(subject === undefined ? 'nobody' : 'known');
  };
  const server = createTlsServer({ ...FAKE_TLS, requestCert: true, rejectUnauthorized: false }, say);
  const port = await listening(t, server);
  // Both names lead to one server: only what is shown to them differs.
  const httpProxy = createServer();
  httpProxy.on('connect', (_request, socket) => {
    socket.on('error', () => undefined);
    const behind = connect(port, '127.0.0.1', () => {
      socket.write('HTTP/1.1 200 Connection Established\r\n\r\n');
      behind.pipe(socket).pipe(behind);
    });
    behind.on('error', () => socket.destroy());
    socket.on('close', () => behind.destroy());
  });
  const proxy = { url: `http://127.0.0.1:${await listening(t, httpProxy)}` };
  const sockets = new UpstreamSockets(
    {
      upstream: 'fake',
      home: { base: new URL('https://registry.example'), redirectHosts: [], realmHosts: [] },
      proxyFor: () => proxy,
      tls: { current: () => SHOWN },
    },
    { connections: 1, connectTimeoutMs: 5_000, insecure: true },
  );
  t.teardown(() => sockets.destroy(new CodedError('DRAINING')));
  for (const [url, who] of [
    ['https://registry.example/v2/', 'known'],
    ['https://storage.elsewhere.example/blob', 'nobody'],
  ] as const) {
    const { body } = await request(url, { dispatcher: sockets.for(new URL(url), 'redirect') });
    t.equal(await body.text(), who, url);
  }
});

t.test('a certificate and its key that are renewed on disk are shown from then on', async (t) => {
  const upstream = await startUpstream(t, { tls: { ...ASKS, ca: RENEWED_TLS.cert } });
  upstream.push(REPOSITORY, IMAGE, 'v1');
  const dir = t.testdir({ 'tls.crt': FAKE_TLS.cert, 'tls.key': FAKE_TLS.key, 'ca.crt': FAKE_TLS.cert });
  const named = (name: string) => ({ file: join(dir, name), key: `credentials.fake.${name}` });
  let nowMs = 0;
  const client = clientOf(t, upstream.url, {
    upstream: { ca: join(dir, 'ca.crt') },
    identity: { certificate: named('tls.crt'), key: named('tls.key') },
    nowMs: () => nowMs,
  });
  await failure(client.getManifest(V1, soon()), 'BACKEND_DOWN');
  writeFileSync(join(dir, 'tls.crt'), RENEWED_TLS.cert);
  nowMs += 1_000;
  await failure(client.getManifest(V1, soon()), 'BACKEND_DOWN');
  t.same(upstream.log, [], 'a pair that does not fit is not shown');
  writeFileSync(join(dir, 'tls.key'), RENEWED_TLS.key);
  nowMs += 999;
  await failure(client.getManifest(V1, soon()), 'BACKEND_DOWN');
  nowMs += 1;
  t.ok(await client.getManifest(V1, soon()), 'without a restart');
  const { body } = await client.getBlob({ repository: REPOSITORY, digest: IMAGE.layers[0]! }, soon());
  writeFileSync(join(dir, 'ca.crt'), RENEWED_TLS.cert);
  nowMs += 1_000;
  await failure(client.getManifest(V1, soon()), 'BACKEND_DOWN');
  t.equal((await readAll(body)).length, 30_000, 'what is under way ends on the connection that it has');
  for (const text of ['', 'nonsense']) {
    writeFileSync(join(dir, 'ca.crt'), text);
    nowMs += 1_000;
    await failure(client.getManifest(V1, soon()), 'BACKEND_DOWN');
  }
  writeFileSync(join(dir, 'ca.crt'), `# both\n${RENEWED_TLS.cert}${FAKE_TLS.cert}`);
  nowMs += 1_000;
  t.ok(await client.getManifest(V1, soon()), 'whom it trusts is read again too');
});

t.test('files that hold no certificate, or another key, are refused by name', async (t) => {
  const dir = t.testdir({ 'tls.crt': FAKE_TLS.cert, 'tls.key': RENEWED_TLS.key, empty: '' });
  const named = (name: string) => ({ file: join(dir, name), key: `credentials.fake.${name}` });
  const open = (certificate: string, key: string, ca?: string): unknown =>
    clientOf(t, 'https://registry.example', {
      ...(ca === undefined ? {} : { upstream: { ca: join(dir, ca) } }),
      identity: { certificate: named(certificate), key: named(key) },
    });
  const code = 'CONFIG_INVALID';
  t.throws(() => open('empty', 'tls.key'), {
    code,
    message: /^credentials\.fake\.empty: \S*empty holds no certificate as PEM/,
  });
  t.throws(() => open('tls.crt', 'tls.key'), {
    code,
    message: /^credentials\.fake\.tls\.key: \S* is not the key of that certificate/,
  });
  t.throws(() => open('tls.crt', 'tls.key', 'empty'), {
    code,
    message: /^upstreams: ca of fake: \S*empty holds no certificate/,
  });
});
