import { readFile } from 'node:fs/promises';
import { MemberClock } from '@sepia/base/clock/member-clock';
import { Cluster } from '@sepia/cluster/cluster';
import { loadClusterDocument } from '@sepia/cluster/load-document';
import { NodeCommands } from '@sepia/cluster/node-commands';
import { InternalClient } from '@sepia/http/client';
import { createDispatcher } from '@sepia/http/sockets';
import {
  type PushedImage,
  pullUntilGiven,
  pushUntilTaken,
  randomImage,
} from '@sepia/test-support/clients/registry-client';
import { Constellation } from '@sepia/test-support/cluster/constellation';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { request } from 'undici';

const MIB = 1024 * 1024;
const TTL = { ttlMs: 60_000 };

async function commandsOf(t: Tap, cluster: Constellation): Promise<NodeCommands> {
  const dispatcher = createDispatcher();
  t.teardown(() => dispatcher.destroy());
  const client = new InternalClient({
    dispatcher,
    clusterKey: Buffer.from(await readFile(cluster.keyFile, 'utf8'), 'hex'),
    memberId: 'test',
    clock: new MemberClock(),
  });
  return new NodeCommands({ cluster: new Cluster(loadClusterDocument(cluster.documentFile)), client });
}

type Tap = { teardown(stop: () => Promise<void>): void };

const nodesOf = (states: readonly { nodeId: string; state: string }[]) =>
  states.map(({ nodeId, state }) => `${nodeId} ${state}`);
const sizeOf = (image: PushedImage): number =>
  [image.config, ...image.layers].reduce((sum, { bytes }) => sum + bytes.length, 0);

t.test('a prefetch reaches every node, also with a tracker dead, and then needs nobody', async (t) => {
  await using cluster = await Constellation.start(t.testdir(), { agents: 3, trackers: 3 });
  const image = randomImage([5 * MIB + 7, 2 * MIB, 1_000]);
  await pushUntilTaken(() => cluster.proxyUrls[0]!, 'demo/app', 'v1', image);
  const commands = await commandsOf(t, cluster);
  await cluster.stopMember('tracker-2');
  const detail = { upstream: 'local', repository: 'demo/app', manifest: image.manifestDigest };
  const missed = await commands.send({ id: 'p1', type: 'prefetch', detail, ...TTL });
  t.same(missed, ['tracker-2']);
  const view = await until(async () => {
    const found = await commands.view('p1');
    return found.nodes.length === 3 && found.nodes.every(({ state }) => state === 'done') ? found : false;
  }, 'every node reports');
  t.same(view.silent, ['tracker-2']);
  for (const node of view.nodes) {
    t.equal(node.totalBytes, sizeOf(image), node.nodeId);
    t.equal(node.doneBytes, node.totalBytes, node.nodeId);
    t.ok(node.leased);
  }
  for (const id of ['origin-1', 'origin-2', 'origin-3']) await cluster.stopMember(id);
  for (const agent of cluster.agents) {
    const manifest = await request(`${agent.url}/v2/demo/app/manifests/${image.manifestDigest}`);
    t.equal(manifest.statusCode, 200);
    await manifest.body.dump();
    for (const { digest, bytes } of [image.config, ...image.layers]) {
      const blob = await request(`${agent.url}/v2/demo/app/blobs/${digest}`);
      t.equal((await blob.body.arrayBuffer()).byteLength, bytes.length, digest);
    }
  }
});

t.test('a tracker that has forgotten hands out again; no node does the work twice', async (t) => {
  await using cluster = await Constellation.start(t.testdir(), { agents: 2, trackers: 2 });
  const image = randomImage([3 * MIB]);
  await pushUntilTaken(() => cluster.proxyUrls[0]!, 'demo/app', 'v1', image);
  const commands = await commandsOf(t, cluster);
  const detail = { upstream: 'local', repository: 'demo/app', manifest: image.manifestDigest };
  const command = { id: 'p1', type: 'prefetch', detail, ...TTL } as const;
  await commands.send(command);
  const allDone = async (): Promise<boolean> => {
    const { nodes, unaware } = await commands.view('p1');
    return unaware.length === 0 && nodes.length === 2 && nodes.every(({ state }) => state === 'done');
  };
  await until(allDone, 'both report');
  await cluster.restartMember('tracker-1');
  await cluster.restartMember('tracker-2');
  const { unaware } = await commands.view('p1');
  t.same([...unaware].sort(), ['tracker-1', 'tracker-2']);
  await commands.send(command, unaware);
  await until(allDone, 'both report again, from what they remember');
});

t.test('what a node cannot do it says; what is meant for one is done by one', async (t) => {
  await using cluster = await Constellation.start(t.testdir(), { agents: 2 });
  const commands = await commandsOf(t, cluster);
  await commands.send({ id: 'x1', type: 'limits', detail: { up: 1 }, nodes: ['agent-2'], ...TTL });
  const detail = {
    upstream: 'local',
    repository: 'no/such',
    digests: [`sha256:${'1'.repeat(64)}`],
  };
  await commands.send({ id: 'p1', type: 'prefetch', detail, nodes: ['agent-1'], ...TTL });
  const limits = await until(async () => {
    const { nodes } = await commands.view('x1');
    return nodes.every(({ state }) => state === 'failed') && nodes;
  }, 'limits are refused');
  t.same(nodesOf(limits), ['agent-2 failed']);
  t.match(limits[0]?.error, /does not carry out "limits"/);
  const missing = await until(async () => {
    const { nodes } = await commands.view('p1');
    return nodes.every(({ state }) => state === 'failed') && nodes;
  }, 'the missing blob is told');
  t.same(nodesOf(missing), ['agent-1 failed']);
  t.match(missing[0]?.error, /BLOB_UNKNOWN/);
});

t.test(
  'a purge takes cache, hints and the remembered tag away; other repositories keep theirs',
  async (t) => {
    await using cluster = await Constellation.start(t.testdir(), { agents: 1 });
    const image = randomImage([2 * MIB]);
    await pushUntilTaken(() => cluster.proxyUrls[0]!, 'demo/app', 'v1', image);
    await pushUntilTaken(() => cluster.proxyUrls[0]!, 'other/app', 'v1', image);
    const [agent] = cluster.agents;
    await pullUntilGiven(agent!.url, 'demo/app', 'v1');
    await pullUntilGiven(agent!.url, 'other/app', 'v1');
    const commands = await commandsOf(t, cluster);
    const detail = { upstream: 'local', repository: 'demo/app', digest: image.manifestDigest };
    await commands.send({ id: 'd1', type: 'purge', detail, ...TTL });
    await until(
      async () => (await commands.view('d1')).nodes.every(({ state }) => state === 'done'),
      'purged',
    );
    for (const id of ['origin-1', 'origin-2', 'origin-3', 'proxy-1', 'proxy-2', 'tracker-1', 'tracker-2'])
      await cluster.stopMember(id);
    const status = async (path: string): Promise<number> => {
      const answer = await request(`${agent!.url}/v2/${path}`);
      await answer.body.dump();
      return answer.statusCode;
    };
    t.equal(await status(`demo/app/manifests/${image.manifestDigest}`), 503);
    t.equal(await status('demo/app/manifests/v1'), 503, 'the tag is not remembered');
    t.equal(await status(`demo/app/blobs/${image.layers[0]!.digest}`), 503, 'nor is the link of the layer');
    t.equal(await status(`other/app/manifests/${image.manifestDigest}`), 200);
    t.equal(await status(`other/app/blobs/${image.layers[0]!.digest}`), 200);
  },
);
