import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { AGENT_CONFIG, type Agent, createAgent } from '@sepia/agent';
import { MemberClock } from '@sepia/base/clock/member-clock';
import { silentLogger } from '@sepia/base/log';
import { AGENT_OF_NODE, type LazyAnswer, type LazyOffer } from '@sepia/cluster/api/lazy-offers';
import { PROXY } from '@sepia/cluster/api/proxy';
import { to } from '@sepia/cluster/api/route';
import { InternalClient } from '@sepia/http/client';
import { createDispatcher } from '@sepia/http/sockets';
import { pushBlob } from '@sepia/test-support/clients/registry-calls';
import { type ConversionCluster, conversionCluster } from '@sepia/test-support/cluster/conversion-cluster';
import { until } from '@sepia/test-support/until';
import t, { type Test } from 'tap';
import { request } from 'undici';

const RULES = [{ name: 'index', from: 'local', repositories: ['team/**'], to: 'index', 'min-size': 1 }];

interface Node {
  readonly here: ConversionCluster;
  readonly agent: Agent;
  /** Calls of the node's snapshotter; with another secret if one is given. */
  readonly snapshotter: InternalClient;
}

async function node(t: Test, keys: object = {}): Promise<Node> {
  const here = await conversionCluster(t, RULES);
  const secret = randomBytes(32);
  const file = join(here.dir, 'node-secret');
  writeFileSync(file, secret.toString('hex'), { mode: 0o600 });
  const config = AGENT_CONFIG.parse({
    id: 'agent-1',
    data: join(here.dir, 'agent-1'),
    'cluster-key-file': here.cluster.keyFile,
    'cluster-document': here.cluster.documentFile,
    'admin-listen': '127.0.0.1:0',
    listeners: [{ listen: '127.0.0.1:0' }],
    'peer-listen': ['127.0.0.1:0'],
    'node-secret-file': file,
    'lazy-wait': '20s',
    ...keys,
  });
  const agent = await createAgent(config, { log: silentLogger() });
  const dispatcher = createDispatcher();
  t.teardown(async () => {
    await dispatcher.destroy();
    await agent.stop();
  });
  const snapshotter = clientOf(secret, dispatcher);
  return { here, agent, snapshotter };
}

function clientOf(secret: Uint8Array, dispatcher = createDispatcher()): InternalClient {
  return new InternalClient({
    dispatcher,
    clusterKey: secret,
    memberId: 'snapshotter',
    clock: new MemberClock(),
  });
}

const at = (agent: Agent) => ({ url: agent.url, to: AGENT_OF_NODE, headersTimeoutMs: 30_000 }) as const;

async function nextOffer({ agent, snapshotter }: Node): Promise<LazyOffer> {
  const path = '/v1/lazy/offers?wait=20000';
  const { offers } = await snapshotter.json<{ offers: LazyOffer[] }>({ ...at(agent), method: 'GET', path });
  return offers[0]!;
}

async function answer({ agent, snapshotter }: Node, offer: LazyOffer, json: LazyAnswer): Promise<void> {
  await snapshotter.json({ ...at(agent), method: 'POST', path: `/v1/lazy/offers/${offer.id}`, json });
}

/** A pull as containerd begins it: manifest, then config. */
async function pullConfig(
  { agent }: Node,
  repository: string,
  tag: string,
  client = 'containerd/v2.4.2',
): Promise<{ status: number; text: string }> {
  const manifest = await request(`${agent.url}/v2/${repository}/manifests/${tag}?ns=harbor.test`);
  const { config } = (await manifest.body.json()) as { config: { digest: string } };
  const { statusCode, body } = await request(
    `${agent.url}/v2/${repository}/blobs/${config.digest}?ns=harbor.test`,
    { headers: { 'user-agent': client } },
  );
  return { status: statusCode, text: await body.text() };
}

t.test(
  'the first pull puts the image into the queue, the next is offered with its records',
  { timeout: 120_000 },
  async (t) => {
    const one = await node(t);
    await one.here.push('team/app', '1', 'hello');
    const first = pullConfig(one, 'team/app', '1');
    const offer = await nextOffer(one);
    t.match(offer, { upstream: 'local', repository: 'team/app', layers: [{ isUnanswered: false }] });
    t.equal(offer.layers[0]!.binding, undefined);
    await answer(one, offer, { isShown: false });
    t.match(await first, { status: 200, text: /diff_ids/ });
    await until(async () => (await one.here.jobs()).length === 1, 'the job is on record', 30_000);
    t.match(await one.here.jobs(), [{ payload: { kind: 'index', rule: 'index', tag: /^sha256:/ } }]);
    await one.here.start('accelerator-1');
    await until(async () => (await one.here.jobs())[0]?.state === 'done', 'it is indexed', 60_000);
    let isAnswered = false;
    const second = pullConfig(one, 'team/app', '1').then((got) => {
      t.ok(isAnswered, 'the config waits for the snapshotter');
      return got;
    });
    const next = await nextOffer(one);
    t.equal(next.readFirst, undefined, 'nobody recorded a start');
    t.match(next.layers[0]!.binding, { layer: next.layers[0]!.digest, diffId: next.layers[0]!.diffId });
    isAnswered = true;
    await answer(one, next, { isShown: true });
    t.equal((await second).status, 200);
    await t.rejects(answer(one, next, { isShown: true }), { code: 'COMMAND_UNKNOWN' }, 'it waits no longer');
  },
);

t.test(
  'a snapshotter that says nothing yet holds the config back, one that refuses the pull',
  { timeout: 120_000 },
  async (t) => {
    const one = await node(t, { 'lazy-wait': '3s' });
    await one.here.push('team/app', '1', 'hello');
    t.equal((await pullConfig(one, 'team/app', '1')).status, 200, 'without a snapshotter nobody waits');
    const silent = pullConfig(one, 'team/app', '1');
    const late = await nextOffer(one);
    let isOut = false;
    silent.then(() => (isOut = true)).catch(t.fail);
    // Its first wait passes: nobody has said that it would show nothing of another image.
    const next = await nextOffer(one);
    t.notSame(next.id, late.id);
    t.notOk(isOut, 'nobody looked at it');
    await answer(one, next, { isShown: false });
    t.equal((await silent).status, 200);
    await t.rejects(answer(one, late, { isShown: true }), { code: 'COMMAND_UNKNOWN' });
    const refused = pullConfig(one, 'team/app', '1');
    await answer(one, await nextOffer(one), { isShown: false, refusal: 'it names another image’s layer' });
    t.match(await refused, { status: 503, text: /it names another image’s layer/ });
    const doubtful = pullConfig(one, 'team/app', '1');
    await answer(one, await nextOffer(one), { isShown: false, refusal: 'not known yet', isPending: true });
    await answer(one, await nextOffer(one), { isShown: false });
    t.match(await doubtful, { status: 200, text: /diff_ids/ }, 'it is asked again, and goes out');
  },
);

t.test('a Nydus image that is not shown is refused to a runtime alone', { timeout: 120_000 }, async (t) => {
  const one = await node(t, { 'lazy-wait': '3s' });
  const layer = await pushBlob(one.here.proxy, 'team/app', Buffer.from('bootstrap'));
  const annotations = { 'containerd.io/snapshot/nydus-bootstrap': 'true' };
  const mediaType = 'application/vnd.oci.image.layer.v1.tar+gzip';
  await one.here.push('team/app', 'nydus', 'x', {
    layers: [{ mediaType, digest: layer, size: 9, annotations }],
  });
  const unusable = 'not mounted: it has no index yet';
  for (const [client, status] of [
    ['containerd/v2.4.2', 503],
    ['skopeo/1.9', 200],
  ] as const) {
    const pull = pullConfig(one, 'team/app', 'nydus', client);
    const offer = await nextOffer(one);
    t.equal(offer.isNydus, true);
    await answer(one, offer, { isShown: false, unusable });
    const { status: found, text } = await pull;
    t.equal(found, status, client);
    if (status === 503) t.match(text, /not mounted: it has no index yet/);
  }
  const shown = pullConfig(one, 'team/app', 'nydus');
  await answer(one, await nextOffer(one), { isShown: true });
  t.equal((await shown).status, 200);
});

t.test('only the snapshotter of this node is told what is pulled', { timeout: 120_000 }, async (t) => {
  const one = await node(t);
  const path = '/v1/lazy/offers?wait=0';
  t.equal((await request(`${one.agent.url}${path}`)).statusCode, 403);
  const stranger = clientOf(randomBytes(32));
  await t.rejects(stranger.json({ ...at(one.agent), method: 'GET', path }), { code: 'SIGNATURE_INVALID' });
});

t.test('an offer brings what a recorded start read', { timeout: 120_000 }, async (t) => {
  const one = await node(t);
  const manifest = await one.here.push('team/app', '1', 'hello');
  const key = Buffer.from(readFileSync(one.here.cluster.keyFile, 'utf8').trim(), 'hex');
  const dispatcher = createDispatcher();
  t.teardown(() => dispatcher.destroy());
  await clientOf(key, dispatcher).json({
    ...to(PROXY.profilePut, { upstream: 'local', repository: 'team/app' }),
    ...{ url: one.here.proxy, to: 'proxy-1', headersTimeoutMs: 10_000 },
    json: { profile: { manifest, paths: ['/b', '/a'] } },
  });
  const pull = pullConfig(one, 'team/app', '1');
  const offer = await nextOffer(one);
  t.same(offer.readFirst, ['/b', '/a']);
  await answer(one, offer, { isShown: false });
  t.equal((await pull).status, 200);
});
