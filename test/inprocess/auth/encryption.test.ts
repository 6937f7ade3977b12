import { readFile, writeFile } from 'node:fs/promises';
import {
  getChecked,
  pullUntilGiven,
  pushUntilTaken,
  randomImage,
} from '@sepia/test-support/clients/registry-client';
import { Constellation } from '@sepia/test-support/cluster/constellation';
import { FAKE_TLS } from '@sepia/test-support/upstream/fake-upstream-tls';
import t from 'tap';
import { Agent, getGlobalDispatcher, request, setGlobalDispatcher } from 'undici';

const MIB = 1024 * 1024;

t.test(
  'a cluster that requires encryption pushes, pulls, reads ranges and is asked by its operator',
  async (t) => {
    await using cluster = await Constellation.start(t.testdir(), {
      agents: 3,
      document: { policies: { encryption: 'require' } },
    });
    const image = randomImage([5 * MIB + 123, 100_000]);
    let turn = 0;
    await pushUntilTaken(() => cluster.proxyUrls[turn++ % 2]!, 'demo/app', 'v1', image);
    await Promise.all(cluster.agents.map((agent) => pullUntilGiven(agent.url, 'demo/app', 'v1')));
    const { digest, bytes } = image.layers[0]!;
    const answer = await request(`${cluster.agents[0]!.url}/v2/demo/app/blobs/${digest}`, {
      headers: { range: 'bytes=-51' },
    });
    t.ok(Buffer.from(await answer.body.arrayBuffer()).equals(bytes.subarray(-51)));
    const told = await cluster.sepia('ring', 'status');
    t.equal(told.code, 0, told.stderr);
    await t.rejects(cluster.ask(cluster.originUrls[0]!, '/v1/status'), { code: 'TLS_REQUIRED' });
  },
);

t.test('a running cluster goes from no encryption to nothing else, member by member', async (t) => {
  await using cluster = await Constellation.start(t.testdir(), { trackers: 1, agents: 2 });
  const document = JSON.parse(await readFile(cluster.documentFile, 'utf8')) as Record<string, unknown>;
  const [first, second] = cluster.agents.map((agent) => agent.url);
  let n = 0;
  let turn = 0;
  const works = async (): Promise<void> => {
    const tag = `v${++n}`;
    const image = randomImage([2 * MIB + n, 1_000]);
    await pushUntilTaken(() => cluster.proxyUrls[turn++ % 2]!, 'demo/app', tag, image);
    await Promise.all([first!, second!].map(async (url) => await pullUntilGiven(url, 'demo/app', tag)));
  };
  await works();
  for (const encryption of ['accept', 'on', 'require']) {
    await writeFile(cluster.documentFile, JSON.stringify({ ...document, policies: { encryption } }));
    for (const id of cluster.ids) {
      await cluster.restartMember(id);
      if (/-1$/.test(id)) await works();
    }
    await works();
  }
  t.equal(n, 16);
});

t.test('a proxy and an agent with a certificate are pushed to and pulled from by HTTPS', async (t) => {
  const dir = t.testdir({ cluster: {}, 'tls.crt': FAKE_TLS.cert, 'tls.key': FAKE_TLS.key });
  const tls = { 'certificate-file': `${dir}/tls.crt`, 'key-file': `${dir}/tls.key` };
  await using cluster = await Constellation.start(`${dir}/cluster`, { agents: 1, proxyListener: { tls } });
  const before = getGlobalDispatcher();
  const trusting = new Agent({ connect: { ca: FAKE_TLS.cert } });
  setGlobalDispatcher(trusting);
  t.teardown(async () => {
    setGlobalDispatcher(before);
    await trusting.close();
  });
  const [proxy] = cluster.proxyUrls.map((url) => url.replace('http:', 'https:'));
  const image = randomImage([2 * MIB]);
  await pushUntilTaken(() => proxy!, 'demo/app', 'v1', image);
  // Members have no certificate and need none: their calls are signed.
  await pullUntilGiven(cluster.agents[0]!.url, 'demo/app', 'v1');
  const { digest, bytes } = image.layers[0]!;
  const got = await getChecked(`${proxy}/v2/demo/app/blobs/${digest}`, digest);
  t.equal(got.bytes.length, bytes.length);
  const plain = await request(`${cluster.proxyUrls[0]}/v2/`);
  t.equal(plain.statusCode, 400);
  t.match(await plain.body.text(), /https:\/\//);
});
