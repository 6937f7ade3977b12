import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { silentLogger } from '@sepia/base/log';
import { makeImage } from '@sepia/test-support/upstream/fake-upstream';
import { FAKE_TLS } from '@sepia/test-support/upstream/fake-upstream-tls';
import { startHttpProxy } from '@sepia/test-support/upstream/http-proxy';
import t from 'tap';
import { openCredentials } from '../src/credentials/open.ts';
import { clientOf, failure, REPOSITORY, readAll, reference, soon, startUpstream } from './client-fixture.ts';

const IMAGE = makeImage({ layers: [300_000], seed: 'proxied' });
const V1 = { repository: REPOSITORY, reference: reference('v1') };

t.test('an upstream is read through its HTTP proxy, plain and TLS', async (t) => {
  for (const tls of [undefined, FAKE_TLS]) {
    const upstream = await startUpstream(t, tls === undefined ? {} : { tls });
    upstream.push(REPOSITORY, IMAGE, 'v1');
    const httpProxy = await startHttpProxy(t);
    const client = clientOf(t, upstream.url, {
      upstream: { proxy: httpProxy.url },
      ...(tls === undefined ? {} : { ca: tls.cert }),
    });
    t.ok(await client.getManifest(V1, soon()));
    const { body } = await client.getBlob({ repository: REPOSITORY, digest: IMAGE.layers[0]! }, soon());
    t.equal((await readAll(body)).length, 300_000);
    t.ok(httpProxy.targets.length > 0);
    t.ok(httpProxy.targets.every((target) => target === new URL(upstream.url).host));
  }
});

t.test('an HTTP proxy that refuses is an upstream that is not reached', async (t) => {
  const upstream = await startUpstream(t);
  const { url, targets } = await startHttpProxy(t, () => 'anna:password');
  await failure(
    clientOf(t, upstream.url, { upstream: { proxy: url } }).getManifest(V1, soon()),
    'BACKEND_DOWN',
  );
  t.equal(targets.length, 0);
});

t.test('an HTTP proxy that is down is an upstream that is down', async (t) => {
  const upstream = await startUpstream(t);
  const client = clientOf(t, upstream.url, { upstream: { proxy: 'http://127.0.0.1:1' } });
  await failure(client.getManifest(V1, soon()), 'BACKEND_DOWN');
});

t.test('the password for an HTTP proxy is read again when it changes', async (t) => {
  const upstream = await startUpstream(t);
  upstream.push(REPOSITORY, IMAGE, 'v1');
  let password = 'first';
  const { url } = await startHttpProxy(t, () => `anna:${password}`);
  const file = join(t.testdir({ password: 'first\n' }), 'password');
  let nowMs = 0;
  const clocks = { nowMs: () => nowMs, dateMs: () => nowMs };
  const identity = openCredentials(
    { log: silentLogger(), env: {}, ...clocks },
    'fake',
    { 'proxy-username': 'anna', 'proxy-password-file': file },
    new URL(upstream.url),
  );
  const client = clientOf(t, upstream.url, {
    upstream: { proxy: url, 'max-connections': 1 },
    identity,
    ...clocks,
  });
  t.ok(await client.getManifest(V1, soon()));
  writeFileSync(file, '');
  nowMs += 1_000;
  t.ok(await client.getManifest(V1, soon()), 'empty for a moment');
  password = 'second';
  writeFileSync(file, 'second\n');
  nowMs += 1_000;
  t.ok(await client.getManifest(V1, soon()));
});
