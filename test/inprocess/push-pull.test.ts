import { randomBytes } from 'node:crypto';
import { digestOf } from '@sepia/base/digest';
import { call } from '@sepia/test-support/clients/registry-calls';
import { getChecked, pullImage, pushImage, randomImage } from '@sepia/test-support/clients/registry-client';
import { Constellation } from '@sepia/test-support/cluster/constellation';
import t from 'tap';
import { request } from 'undici';

const MIB = 1024 * 1024;

t.test('pushed through one proxy, pulled by every agent at once', async (t) => {
  await using cluster = await Constellation.start(t.testdir(), { agents: 5 });
  const image = randomImage([5 * MIB + 123, 3 * MIB, 100_000]);
  await pushImage(() => cluster.proxyUrls[0]!, 'demo/app', 'v1', image);
  const sizes = await Promise.all(cluster.agents.map((agent) => pullImage(agent.url, 'demo/app', 'v1')));
  const whole = image.layers.reduce((sum, layer) => sum + layer.bytes.length, image.config.bytes.length);
  t.same(
    sizes,
    Array.from({ length: 5 }, () => whole),
  );
});

t.test('7 origins, 3 proxies, every request at another proxy', async (t) => {
  await using cluster = await Constellation.start(t.testdir(), { origins: 7, proxies: 3, agents: 3 });
  let turn = 0;
  const next = (): string => cluster.proxyUrls[turn++ % 3]!;
  for (const tag of ['a', 'b', 'c']) {
    const image = randomImage([4 * MIB + 1, 700_000, 10]);
    await pushImage(next, `team/${tag}`, tag, image);
    await Promise.all(cluster.agents.map((agent) => pullImage(agent.url, `team/${tag}`, tag)));
  }
  t.pass('all pulled, all digests right');
});

t.test('a second pull comes from the cache alone', async (t) => {
  await using cluster = await Constellation.start(t.testdir(), { agents: 1 });
  const image = randomImage([2 * MIB]);
  await pushImage(() => cluster.proxyUrls[0]!, 'demo/app', 'v1', image);
  const [agent] = cluster.agents;
  await pullImage(agent!.url, 'demo/app', 'v1');
  for (const id of ['origin-1', 'origin-2', 'origin-3', 'tracker-1', 'tracker-2', 'proxy-1', 'proxy-2'])
    await cluster.stopMember(id);
  await pullImage(agent!.url, 'demo/app', 'v1');
  t.pass('served with the whole cluster gone');
});

t.test('a closing request that is sent again, beside the first or behind it, hears the same', async (t) => {
  await using cluster = await Constellation.start(t.testdir(), { agents: 0 });
  const [first, second] = cluster.proxyUrls as [string, string];
  const begun = async (bytes: Buffer): Promise<URL> => {
    const session = await call('POST', `${first}/v2/demo/app/blobs/uploads/`);
    const { headers, status } = await call('PATCH', new URL(String(session.headers['location']), first), {
      body: bytes,
      headers: { 'content-type': 'application/octet-stream' },
    });
    t.equal(status, 202);
    return new URL(String(headers['location']), first);
  };
  const close = async (session: URL, url: string, digest: string): Promise<number> => {
    const to = new URL(`${session.pathname}${session.search}`, url);
    to.searchParams.set('digest', digest);
    return (await call('PUT', to)).status;
  };
  const bytes = randomBytes(3 * MIB);
  const session = await begun(bytes);
  const digest = digestOf(bytes);
  t.same(
    await Promise.all([first, second, first].map((url) => close(session, url, digest))),
    [201, 201, 201],
  );
  t.equal(await close(session, second, digest), 201, 'its answer was lost');
  t.equal(await close(session, second, digestOf(Buffer.from('x'))), 404, 'nothing else is said of it');
  const other = await begun(Buffer.from('other'));
  const wrong = digestOf(Buffer.from('wrong'));
  const statuses = await Promise.all([first, second].map((url) => close(other, url, wrong)));
  t.equal(statuses[0] === 400 ? 400 : statuses[1], 400, 'nor that it was right');
  t.ok(statuses.every((status) => status === 400 || status === 404));
});

t.test('a digest learned elsewhere opens nothing under another repository', async (t) => {
  await using cluster = await Constellation.start(t.testdir(), { agents: 1 });
  const image = randomImage([2 * MIB]);
  await pushImage(() => cluster.proxyUrls[0]!, 'secret/app', 'v1', image);
  const [agent] = cluster.agents;
  await pullImage(agent!.url, 'secret/app', 'v1');
  const answer = await request(`${agent!.url}/v2/open/app/blobs/${image.layers[0]!.digest}`);
  const body = (await answer.body.json()) as { errors: { code: string }[] };
  t.equal(answer.statusCode, 404);
  t.equal(body.errors[0]?.code, 'BLOB_UNKNOWN');
});

t.test('ranges of a cold blob: one, several, suffix, open end', async (t) => {
  await using cluster = await Constellation.start(t.testdir(), { agents: 1 });
  const image = randomImage([6 * MIB + 77]);
  await pushImage(() => cluster.proxyUrls[0]!, 'demo/app', 'v1', image);
  const { digest, bytes } = image.layers[0]!;
  const url = `${cluster.agents[0]!.url}/v2/demo/app/blobs/${digest}`;
  const part = async (range: string) => {
    const answer = await request(url, { headers: { range } });
    return {
      status: answer.statusCode,
      range: answer.headers['content-range'],
      bytes: Buffer.from(await answer.body.arrayBuffer()),
    };
  };
  const suffix = await part('bytes=-51');
  t.equal(suffix.status, 206);
  t.ok(suffix.bytes.equals(bytes.subarray(-51)));
  const middle = await part(`bytes=${MIB - 5}-${MIB + 4}`);
  t.equal(middle.range, `bytes ${MIB - 5}-${MIB + 4}/${bytes.length}`);
  t.ok(middle.bytes.equals(bytes.subarray(MIB - 5, MIB + 5)));
  const open = await part(`bytes=${4 * MIB}-`);
  t.ok(open.bytes.equals(bytes.subarray(4 * MIB)));
  const several = await part('bytes=0-1,100-109');
  t.equal(several.status, 206);
  t.ok(several.bytes.includes(bytes.subarray(100, 110)));
  t.equal((await part(`bytes=${bytes.length}-`)).status, 416);
  await getChecked(url, digest);
});

t.test('a write at an agent names the proxy', async (t) => {
  await using cluster = await Constellation.start(t.testdir(), {
    origins: 1,
    trackers: 1,
    proxies: 1,
    agents: 1,
  });
  const answer = await request(`${cluster.agents[0]!.url}/v2/a/b/blobs/uploads/`, { method: 'POST' });
  const body = (await answer.body.json()) as { errors: { code: string; message: string }[] };
  t.equal(answer.statusCode, 405);
  t.equal(body.errors[0]?.code, 'UNSUPPORTED');
  t.match(body.errors[0]?.message, cluster.proxyUrls[0]!);
});

t.test('unknown ns: 404 at once, nothing is dialled', async (t) => {
  await using cluster = await Constellation.start(t.testdir(), {
    origins: 1,
    trackers: 1,
    proxies: 1,
    agents: 1,
  });
  const answer = await request(`${cluster.agents[0]!.url}/v2/a/b/manifests/x?ns=evil.example`);
  t.equal(answer.statusCode, 404);
  await answer.body.dump();
});
