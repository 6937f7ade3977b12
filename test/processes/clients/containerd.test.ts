import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { heardOn } from '@sepia/test-support/clients/heard';
import { startMadeRegistry } from '@sepia/test-support/clients/made-registry';
import { freePort, mustOnceAnswered, quietly, run, testbed, whyNoClients } from '@sepia/test-support/testbed';
import { Up } from '@sepia/test-support/up';
import t from 'tap';

const why = whyNoClients();
const NODES = ['n1', 'n2', 'n3', 'n4', 'n5'];
const NAME = 'registry.example:5000';
const PRODUCT = "python3 -c 'print(6*7)'";

t.test('five containerds behind five agents', { skip: why ?? false, timeout: 600_000 }, async (t) => {
  const dir = t.testdir();
  const port = await freePort();
  const registry = await startMadeRegistry(t, port, 'all');
  // Nor by an agent itself, which it may where the whole cluster is silent, as a busy machine is for seconds.
  mkdirSync(join(dir, 'data/overrides'), { recursive: true });
  writeFileSync(join(dir, 'data/overrides/agent.yaml'), 'back-to-source: {after: 2m}\n');
  await using up = await Up.start(join(dir, 'data'), [
    '--agents',
    '5',
    '--upstream',
    `local-registry=http://127.0.0.1:${port},${NAME}`,
    '--ports-from',
    '21000',
  ]);
  for (const node of NODES) {
    await testbed('containerd.sh', ['start', node]);
    t.teardown(() => quietly('containerd.sh', ['stop', node]));
  }
  const mirror = (name: string) =>
    Promise.all(
      NODES.map((node, at) => testbed('containerd.sh', ['mirror', node, name, up.cluster.agents[at]!.url])),
    );
  await mirror(NAME);

  await t.test('nothing pushed: each blob is fetched from the upstream once', async (t) => {
    const before = readFileSync(join(registry, 'registry.log'), 'utf8').length;
    await Promise.all(
      NODES.map((node) => testbed('containerd.sh', ['cri-pull', node, `${NAME}/t/python:oci`])),
    );
    t.match(await heardOn('n1', `${NAME}/t/python:oci`, PRODUCT), /42/);
    const log = readFileSync(join(registry, 'registry.log'), 'utf8').slice(before);
    const gets = blobGets(log);
    t.ok(gets.size >= 3, `the registry's log names blobs (${gets.size})`, { log: log.slice(-4000) });
    for (const [digest, count] of gets) t.equal(count, 1, `${digest} was fetched ${count} times`);
  });

  await t.test('Docker types and the multi-arch index', async (t) => {
    await Promise.all(NODES.map((node) => testbed('containerd.sh', ['pull', node, `${NAME}/t/big:v2s2`])));
    for (const kind of ['oci', 'v2s2']) {
      await testbed('containerd.sh', ['pull', 'n2', `${NAME}/t/multi:${kind}`]);
      t.match(await heardOn('n2', `${NAME}/t/multi:${kind}`, 'echo hello'), /hello/);
    }
  });

  await t.test('a push to a pull-through upstream is refused and says why', async (t) => {
    const source = `docker://127.0.0.1:${port}/t/python:v2s2`;
    const target = `docker://${new URL(up.cluster.proxies[0]!.url).host}/t/python:pushed`;
    const args = ['copy', '--src-tls-verify=false', '--dest-tls-verify=false', source];
    const { code, stderr } = await run('skopeo', [...args, target]);
    t.not(code, 0, 'a pull-through upstream takes no push');
    t.match(stderr, /mode|denied/i);
  });

  t.equal(await up.stop(), 0, 'drained');
});

t.test(
  'mode none: skopeo pushes, five containerds pull and run',
  { skip: why ?? false, timeout: 600_000 },
  async (t) => {
    const dir = t.testdir();
    const port = await freePort();
    await startMadeRegistry(t, port, 'all');
    await using up = await Up.start(
      join(dir, 'data'),
      '--agents 5 --origins 7 --proxies 3 --ports-from 23000'.split(' '),
    );
    for (const node of NODES) {
      await testbed('containerd.sh', ['start', node]);
      t.teardown(() => quietly('containerd.sh', ['stop', node]));
    }
    const proxies = up.cluster.proxies.map((proxy) => new URL(proxy.url).host);
    for (const [at, name] of [
      't/python:oci',
      't/python:v2s2',
      't/multi:oci',
      't/multi:v2s2',
      't/tiny:oci',
    ].entries()) {
      await mustOnceAnswered('skopeo', [
        'copy',
        '--all',
        '--src-tls-verify=false',
        '--dest-tls-verify=false',
        `docker://127.0.0.1:${port}/${name}`,
        `docker://${proxies[at % proxies.length]}/${name}`,
      ]);
    }
    await Promise.all(
      NODES.map((node, at) =>
        testbed('containerd.sh', ['mirror', node, 'local', up.cluster.agents[at]!.url]),
      ),
    );
    await Promise.all(
      NODES.map((node, at) =>
        testbed('containerd.sh', [
          'mirror',
          node,
          new URL(up.cluster.proxies[0]!.url).host,
          up.cluster.agents[at]!.url,
        ]),
      ),
    );
    const ref = (name: string): string => `${proxies[0]}/${name}`;
    for (const name of ['t/python:v2s2', 't/multi:oci']) {
      await Promise.all(NODES.map((node) => testbed('containerd.sh', ['cri-pull', node, ref(name)])));
    }
    t.match(await heardOn('n5', ref('t/python:v2s2'), PRODUCT), /42/);
    const sums = await Promise.all(up.cluster.agents.map((agent) => up.bytesOf(agent)));
    const peer = sums.reduce((sum, one) => sum + (one['peer'] ?? 0), 0);
    t.ok(peer > 0, `agents exchanged pieces (${peer} bytes from peers)`);
    t.equal(await up.stop(), 0);
  },
);

/** How often each blob was fetched whole or in part, from docker-registry's access log. */
function blobGets(log: string): Map<string, number> {
  const counts = new Map<string, number>();
  for (const line of log.split('\n')) {
    const found = /"GET (?:\/v2\/\S+)\/blobs\/(sha256:[0-9a-f]{64})\S* HTTP\/1\.1" (\d+)/.exec(line);
    if (found?.[1] !== undefined && found[2]?.startsWith('2') === true)
      counts.set(found[1], (counts.get(found[1]) ?? 0) + 1);
  }
  return counts;
}
