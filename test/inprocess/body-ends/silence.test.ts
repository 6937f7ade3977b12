import { createServer, type Socket } from 'node:net';
import { pullImage, pushUntilTaken, randomImage } from '@sepia/test-support/clients/registry-client';
import { ociError, watchedGet } from '@sepia/test-support/clients/watched-get';
import { Constellation } from '@sepia/test-support/cluster/constellation';
import { MIB, PATIENT, PullThrough } from '@sepia/test-support/cluster/pull-through';
import { until } from '@sepia/test-support/until';
import t, { type Test } from 'tap';

/** Sockets that take every connection and say nothing, where members were: as those that are halted, or behind a dead network. */
async function hangInPlaceOf(t: Test, urls: readonly string[]): Promise<void> {
  for (const url of urls) {
    const server = createServer();
    const { hostname, port } = new URL(url);
    await new Promise<void>((resolve) => server.listen(Number(port), hostname, resolve));
    const sockets = new Set<Socket>();
    server.on('connection', (socket) => void sockets.add(socket.on('error', () => undefined)));
    t.teardown(() => {
      for (const socket of sockets) socket.destroy();
      server.close();
    });
  }
}

const CLUSTER = ['proxy-1', 'tracker-1', 'origin-1', 'origin-2', 'origin-3'];

async function stopAll(cluster: Constellation): Promise<void> {
  for (const id of CLUSTER) await cluster.stopMember(id);
}

t.test('nobody answers, back to source: the cache, then the upstream itself', async (t) => {
  await using here = await PullThrough.start(t.testdir(), {
    agent: { 'back-to-source': { mode: 'auto', after: '200ms', 'max-parallel': 2 } },
  });
  const kept = await here.hinted(2 * MIB);
  t.ok((await kept.get()).bytes.equals(kept.content));
  const hinted = await here.hinted(3 * MIB);
  const unknown = here.image(3 * MIB + 1);
  await stopAll(here.cluster);

  const cached = await kept.get();
  t.ok(cached.bytes.equals(kept.content), 'from the cache');
  t.equal(kept.requests.length, 1);

  const answer = await hinted.get();
  t.equal(answer.status, 200, answer.status === 200 ? '' : ociError(answer).message);
  t.ok(answer.bytes.equals(hinted.content), 'from the upstream, known by its manifest');

  await unknown.hint();
  const cold = await unknown.get();
  t.equal(cold.status, 200);
  t.ok(cold.bytes.equals(unknown.content), 'manifest and blob from the upstream');
  const suffix = await unknown.get({ range: 'bytes=-9' });
  t.ok(suffix.bytes.equals(unknown.content.subarray(-9)));

  await t.test('several at once, one cut: all right', async (t) => {
    const layers = [here.image(2 * MIB + 1), here.image(2 * MIB + 2), here.image(2 * MIB + 3)];
    for (const layer of layers) await layer.hint();
    layers[1]!.misbehave({ type: 'cut', afterBytes: MIB + 9 }, { times: 1 });
    const answers = await Promise.all(layers.map((layer) => layer.get()));
    for (const [at, one] of answers.entries()) t.ok(one.bytes.equals(layers[at]!.content), `layer ${at}`);
  });

  await t.test('wrong bytes from the upstream: never whole', async (t) => {
    const layer = here.image(2 * MIB + 4);
    await layer.hint();
    layer.misbehave({ type: 'lie' });
    const wrong = await layer.get();
    t.ok(wrong.status !== 200 || wrong.cut, `${wrong.status}`);
    t.ok(wrong.bytes.length < layer.content.length);
  });

  await t.test('the upstream is down as well: 503', async (t) => {
    const layer = here.image(2 * MIB + 5);
    await layer.hint();
    await here.upstream.down();
    const none = await layer.get();
    t.equal(none.status, 503);
    t.equal(ociError(none).code, 'UNAVAILABLE');
    await here.upstream.up();
  });
});

t.test('everybody hangs: the upstream itself all the same', async (t) => {
  await using here = await PullThrough.start(t.testdir(), {
    agent: { 'back-to-source': { mode: 'auto', after: '200ms', 'max-parallel': 2 } },
  });
  const layer = await here.hinted(2 * MIB);
  const { originUrls, proxyUrls, trackerUrls } = here.cluster;
  await stopAll(here.cluster);
  await hangInPlaceOf(t, [...originUrls, ...proxyUrls, ...trackerUrls]);
  const { status, bytes } = await layer.get();
  t.equal(status, 200);
  t.ok(bytes.equals(layer.content));
  t.equal(layer.requests.length, 1, 'from the upstream');
});

t.test('everybody hangs in mid-body: the same body goes on from the upstream itself', async (t) => {
  await using here = await PullThrough.start(t.testdir(), {
    // What stalls is not asked for again before all are gone.
    origin: PATIENT.origin,
    agent: {
      'back-to-source': { mode: 'auto', after: '200ms', 'max-parallel': 2 },
      deadlines: { 'download-progress': '30s', 'body-stall': '30s' },
    },
  });
  const layer = await here.hinted(5 * MIB + 3);
  layer.misbehave({ type: 'stall', afterBytes: 2 * MIB + 9 }, { times: 1 });
  const { originUrls, proxyUrls, trackerUrls } = here.cluster;
  let received = 0;
  const reading = watchedGet(layer.url(), {}, { onBytes: (total) => (received = total) });
  await until(() => received >= 2 * MIB, 'two pieces came');
  await stopAll(here.cluster);
  await hangInPlaceOf(t, [...originUrls, ...proxyUrls, ...trackerUrls]);
  const { status, bytes, cut } = await reading;
  t.equal(status, 200);
  t.notOk(cut, `${bytes.length} bytes, then nothing`);
  t.ok(bytes.equals(layer.content));
  const again = await layer.get();
  t.ok(again.bytes.equals(layer.content), 'it is kept');
  t.equal(layer.requests.length, 2, 'what had come was not asked for again');
  t.match(layer.requests[1]!.range, /^bytes=2097152-/);
});

t.test('nobody answers, never back to source: the cache, else 503', async (t) => {
  await using here = await PullThrough.start(t.testdir());
  const kept = await here.hinted(2 * MIB);
  t.ok((await kept.get()).bytes.equals(kept.content));
  const cold = await here.hinted(3 * MIB);
  const small = await here.hinted(3000);
  await stopAll(here.cluster);
  t.ok((await kept.get()).bytes.equals(kept.content), 'from the cache');
  for (const layer of [cold, small]) {
    const answer = await layer.get();
    t.equal(answer.status, 503);
    t.equal(ociError(answer).code, 'UNAVAILABLE');
    t.equal(layer.requests.length, 0, 'the upstream was not asked');
  }
  const tag = await watchedGet(`${here.cluster.agents[0]!.url}/v2/${cold.repository}/manifests/v1`);
  t.equal(tag.status, 200, 'a tag as last seen');
  const other = await watchedGet(`${here.cluster.agents[0]!.url}/v2/${cold.repository}/manifests/other`);
  t.equal(other.status, 503);
});

t.test('nobody answers, mode none: what is cached, else 503', async (t) => {
  await using cluster = await Constellation.start(t.testdir(), { agents: 2, trackers: 1, proxies: 1 });
  const image = randomImage([2 * MIB + 7]);
  await pushUntilTaken(() => cluster.proxyUrls[0]!, 'demo/app', 'v1', image);
  const [warm, cold] = cluster.agents;
  await pullImage(warm!.url, 'demo/app', 'v1');
  await stopAll(cluster);
  await pullImage(warm!.url, 'demo/app', 'v1');
  for (const path of ['manifests/v1', `blobs/${image.layers[0]!.digest}`]) {
    const answer = await watchedGet(`${cold!.url}/v2/demo/app/${path}`);
    t.equal(answer.status, 503, path);
    t.equal(ociError(answer).code, 'UNAVAILABLE');
  }
});
