import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { MemberClock } from '@sepia/base/clock/member-clock';
import { AGENT } from '@sepia/cluster/api/agent';
import { AGENT_OF_NODE, type LazyAnswer, type LazyOffer } from '@sepia/cluster/api/lazy-offers';
import { PROXY } from '@sepia/cluster/api/proxy';
import { to } from '@sepia/cluster/api/route';
import { Cluster } from '@sepia/cluster/cluster';
import { loadClusterDocument } from '@sepia/cluster/load-document';
import { NodeCommands } from '@sepia/cluster/node-commands';
import { InternalClient } from '@sepia/http/client';
import { createDispatcher } from '@sepia/http/sockets';
import { fileImage, pushFileImage } from '@sepia/test-support/clients/file-image';
import { Constellation } from '@sepia/test-support/cluster/constellation';
import { until } from '@sepia/test-support/until';
import t, { type Test } from 'tap';

const NAME = { upstream: 'local', repository: 'team/app' };

/** A cluster of one node, and what its snapshotter and its operator do. */
async function node(t: Test) {
  const dispatcher = createDispatcher();
  let running: Constellation | undefined;
  // Before the folder is made, so that it is still there.
  t.teardown(async () => {
    await dispatcher.destroy();
    await running?.stop();
  });
  const dir = t.testdir();
  const secret = randomBytes(32);
  const file = join(dir, 'node-secret');
  writeFileSync(file, secret.toString('hex'), { mode: 0o600 });
  const cluster = await Constellation.start(join(dir, 'cluster'), {
    ...{ agents: 1, trackers: 1, origins: 1, proxies: 1 },
    agent: { 'node-secret-file': file, 'lazy-wait': '30s' },
  });
  running = cluster;
  const clientOf = (clusterKey: Uint8Array, memberId: string): InternalClient =>
    new InternalClient({ dispatcher, clusterKey, memberId, clock: new MemberClock() });
  const key = Buffer.from(readFileSync(cluster.keyFile, 'utf8').trim(), 'hex');
  const member = clientOf(key, 'test');
  const snapshotter = clientOf(secret, 'snapshotter');
  const at = { url: cluster.agents[0]!.url, to: AGENT_OF_NODE, headersTimeoutMs: 60_000 };
  return {
    cluster,
    member,
    commands: new NodeCommands({
      cluster: new Cluster(loadClusterDocument(cluster.documentFile)),
      client: member,
    }),
    nextOffer: async (): Promise<LazyOffer> => {
      for (;;) {
        const asked = { ...to(AGENT.offers, { wait: 20_000 }), ...at };
        const { offers } = await snapshotter.json<{ offers: LazyOffer[] }>(asked);
        if (offers[0] !== undefined) return offers[0];
      }
    },
    answer: async ({ id }: LazyOffer, json: LazyAnswer): Promise<void> => {
      await snapshotter.json({ ...to(AGENT.offerAnswer, { id }), ...at, json });
    },
  };
}

t.test('a preheat has the start of an image fetched before its layers', { timeout: 120_000 }, async (t) => {
  const { cluster, member, commands, nextOffer, answer } = await node(t);
  const proxy = cluster.proxyUrls[0]!;
  const image = fileImage('hello');
  const manifest = await pushFileImage(proxy, NAME.repository, '1', image);
  await member.json({
    ...to(PROXY.profilePut, NAME),
    ...{ url: proxy, to: 'proxy-1', headersTimeoutMs: 10_000 },
    json: { profile: { manifest, paths: ['/file'] } },
  });
  const preheat = async (id: string): Promise<void> => {
    const command = { id, type: 'prefetch', detail: { ...NAME, manifest }, ttlMs: 60_000 } as const;
    t.same(await commands.send(command), []);
  };
  const stateOf = async (id: string) => (await commands.view(id)).nodes[0]?.state;
  // It says that it is there before anything is to be shown.
  const offered = nextOffer();
  await preheat('p1');
  const offer = await offered;
  t.match(offer, { ...NAME, manifest, readFirst: ['/file'], layers: [{ isUnanswered: false }] });
  const isRunning = async (): Promise<boolean> => (await stateOf('p1')) === 'running';
  await until(isRunning, 'its layers wait for what its start reads', 60_000);
  await answer(offer, { isShown: true });
  await until(async () => (await stateOf('p1')) === 'done', 'it is here', 60_000);

  await t.test('also where the image is not shown', async (t) => {
    const again = nextOffer();
    await preheat('p2');
    await answer(await again, { isShown: false, refusal: 'it names another image’s layer' });
    await until(async () => (await stateOf('p2')) === 'done', 'it is here', 60_000);
    t.equal(await stateOf('p2'), 'done');
  });
});
