import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { checkConfig } from '@sepia/base/config/load';
import { silentLogger } from '@sepia/base/log';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { request } from 'undici';
import type { z } from 'zod';
import { createProxy, loadProxyConfig, PROXY_CONFIG, type ProxyConfig } from '../src/index.ts';
import { ask, pushBlob, randomContent } from './support/client.ts';
import { startCluster } from './support/fake-cluster.ts';

t.test('ready means that a majority of origins answers', async (t) => {
  const { proxies, origins } = await startCluster(t);
  const ready = async (): Promise<number> => (await ask(`${proxies[0]!.adminUrl}/readyz`)).status;
  const readiness = async (): Promise<number> => (await ask(`${proxies[0]!.url}/readiness`)).status;
  await until(async () => (await ready()) === 200, 'ready');
  t.equal(await readiness(), 200, 'on the main port too');
  origins[0]!.freeze();
  origins[1]!.freeze();
  await until(async () => (await ready()) === 503, 'not ready');
  t.match((await ask(`${proxies[0]!.adminUrl}/readyz`)).text, /1 of 3 origins answer; 2 are needed/);
  t.equal(await readiness(), 503);
  t.equal((await ask(`${proxies[0]!.url}/health`)).status, 200, 'it lives');
  origins[0]!.thaw();
  await until(async () => (await ready()) === 200, 'ready again');
  t.equal(await readiness(), 200);
  t.equal((await ask(`${proxies[0]!.adminUrl}/livez`)).status, 200);
});

t.test('origins whose ports are closed are not ready either, and come back', async (t) => {
  const { proxies, origins } = await startCluster(t);
  const { adminUrl } = proxies[0]!;
  const ready = async (): Promise<number> => (await ask(`${adminUrl}/readyz`)).status;
  await until(async () => (await ready()) === 200, 'ready');
  const [first, second, third] = origins.map(({ url }) => new URL(url).host);
  for (const origin of origins) await origin.stop();
  await until(async () => {
    const { status, text } = await ask(`${adminUrl}/readyz`);
    return (
      status === 503 && text === '0 of 3 origins answer; 2 are needed; silent: origin-1, origin-2, origin-3\n'
    );
  }, 'not ready');
  t.match((await ask(`${adminUrl}/metrics`)).text, /^sepia_ready\{.*\} 0$/m);
  await origins[0]!.start(first);
  await until(
    async () => /^1 of 3 .*silent: origin-2, origin-3$/m.test((await ask(`${adminUrl}/readyz`)).text),
    'one is not enough',
  );
  await origins[1]!.start(second);
  await until(async () => (await ready()) === 200, 'ready again');
  await origins[2]!.start(third);
  t.match((await ask(`${adminUrl}/metrics`)).text, /^sepia_ready\{.*\} 1$/m);
});

t.test('a stop lets running answers end', async (t) => {
  const { proxies } = await startCluster(t, { config: { limits: { drain: '10s' } } });
  const proxy = proxies[0]!;
  const content = randomContent(30 * 1024 * 1024);
  await pushBlob(proxy.url, 'app', content);
  const answer = await request(`${proxy.url}/v2/app/blobs/${content.digest}`);
  const stopped = proxy.stop();
  let received = 0;
  for await (const chunk of answer.body) received += (chunk as Buffer).length;
  t.equal(received, content.bytes.length);
  await stopped;
  await t.rejects(ask(`${proxy.url}/v2/`), 'nobody listens any more');
  await proxy.stop();
});

t.test('metrics name this service', async (t) => {
  const { proxies } = await startCluster(t);
  await ask(`${proxies[0]!.url}/v2/`);
  const { text } = await ask(`${proxies[0]!.adminUrl}/metrics`);
  for (const name of [
    'sepia_proxy_http_request_seconds',
    'sepia_proxy_bytes_total',
    'sepia_proxy_open_uploads',
    'sepia_proxy_origins_answering',
  ])
    t.match(text, name);
});

t.test('a wrong config stops the start and names the key', async (t) => {
  const folder = t.testdir({ key: 'a'.repeat(64) });
  chmodSync(join(folder, 'key'), 0o600);
  const document = {
    version: 1,
    members: [{ id: 'proxy-1', role: 'proxy', urls: ['http://127.0.0.1:9'] }],
    upstreams: [{ name: 'local', mode: 'none' }],
  };
  writeFileSync(join(folder, 'cluster.yaml'), JSON.stringify(document));
  const good = {
    id: 'proxy-1',
    data: 'data',
    'cluster-key-file': 'key',
    'cluster-document': 'cluster.yaml',
    'admin-listen': '127.0.0.1:0',
    listeners: [{ listen: '127.0.0.1:0' }],
  };
  const file = join(folder, 'proxy.yaml');
  const start = async (change: object): Promise<void> => {
    writeFileSync(file, JSON.stringify({ ...good, ...change }));
    const proxy = await createProxy(loadProxyConfig(file), { log: silentLogger() });
    await proxy.stop();
  };
  await t.resolves(start({}));
  const cases: [object, RegExp][] = [
    [{ id: 'other' }, /id: "other" is not in .*role proxy/],
    [{ colour: 1 }, /unknown key colour/],
    [{ listeners: [] }, /listeners/],
    [{ listeners: [{ listen: 'x' }] }, /listeners\.0\.listen/],
    [
      { listeners: [{ listen: '127.0.0.1:0', 'default-upstream': 'nope' }] },
      /listeners\.0\.default-upstream/,
    ],
    [{ limits: { 'manifest-cache': 'lots' } }, /limits\.manifest-cache/],
    [{ limits: { drain: 5 } }, /limits\.drain/],
    [{ 'cluster-key-file': 'nowhere' }, /cluster-key-file/],
  ];
  for (const [change, message] of cases)
    await t.rejects(start(change), { code: 'CONFIG_INVALID', message }, JSON.stringify(change));
});

t.test('a taken port stops the start', async (t) => {
  const { proxies } = await startCluster(t);
  const taken = new URL(proxies[0]!.url).host;
  await t.rejects(startCluster(t, { config: { listeners: [{ listen: taken }] } }), {
    code: 'START_FAILED',
    message: /listeners\.0\.listen/,
  });
});

t.test('defaults are filled in', async (t) => {
  const config = checkConfig(
    JSON.stringify({
      data: 'd',
      'cluster-key-file': 'k',
      'cluster-document': 'c',
      'admin-listen': '127.0.0.1:1',
      listeners: [{ listen: '127.0.0.1:2' }],
    }),
    'x',
    PROXY_CONFIG as unknown as z.ZodType<ProxyConfig>,
  );
  t.same(config.limits, {
    'open-uploads': 512,
    'uploads-per-account': 128,
    'uploads-per-address': 256,
    'requests-per-second': 2_000,
    'manifest-cache': 64 * 1024 * 1024,
    'upload-idle': 60_000,
    'body-stall': 30_000,
    drain: 10_000,
  });
});
