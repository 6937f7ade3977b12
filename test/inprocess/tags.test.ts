import { call } from '@sepia/test-support/clients/registry-calls';
import {
  type PushedImage,
  pullUntilGiven,
  pushUntilTaken,
  randomImage,
} from '@sepia/test-support/clients/registry-client';
import { ociError, watchedGet } from '@sepia/test-support/clients/watched-get';
import { Constellation } from '@sepia/test-support/cluster/constellation';
import { until, untilAnswered } from '@sepia/test-support/until';
import { FakeUpstream, makeImage } from '@sepia/test-support/upstream/fake-upstream';
import t from 'tap';
import { request } from 'undici';

const OCI_MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
const ORIGINS = ['origin-1', 'origin-2', 'origin-3'];

/** Digest that a tag names now, at a proxy or agent. */
async function tagAt(url: string, repository: string, tag: string): Promise<string | undefined> {
  const { status, headers } = await untilAnswered(
    async () => await call('HEAD', `${url}/v2/${repository}/manifests/${tag}`),
    `${tag} at ${url}`,
  );
  return status === 200 ? String(headers['docker-content-digest']) : undefined;
}

async function putManifest(
  url: string,
  repository: string,
  tag: string,
  image: PushedImage,
): Promise<number> {
  const path = `${url}/v2/${repository}/manifests/${tag}`;
  const push = { body: image.manifest, headers: { 'content-type': OCI_MANIFEST } };
  return (await untilAnswered(async () => await call('PUT', path, push), `${tag} at ${url}`)).status;
}

t.test('one tag pushed through three proxies at once', async (t) => {
  await using cluster = await Constellation.start(t.testdir(), { proxies: 3, trackers: 1, agents: 1 });
  const images = Array.from({ length: 6 }, () => randomImage([2000]));
  for (const [at, image] of images.entries())
    await pushUntilTaken(() => cluster.proxyUrls[0]!, 'demo/app', `base${at}`, image);
  const acknowledged = new Set<string>();
  const begun = new Set<string>();
  let writing = true;
  const writers = cluster.proxyUrls.map(async (url, writer) => {
    for (const image of [images[writer]!, images[writer + 3]!]) {
      begun.add(image.manifestDigest);
      t.equal(await putManifest(url, 'demo/app', 'moving', image), 201);
      acknowledged.add(image.manifestDigest);
    }
  });
  const readers = cluster.proxyUrls.map(async (url) => {
    const seen: string[] = [];
    while (writing) {
      const wasAcknowledged = acknowledged.size > 0;
      const digest = await tagAt(url, 'demo/app', 'moving');
      if (digest !== undefined) seen.push(digest);
      else t.notOk(wasAcknowledged, 'a tag that was acknowledged is there');
    }
    return seen;
  });
  await Promise.all(writers);
  writing = false;
  for (const seen of await Promise.all(readers))
    t.ok(
      seen.every((digest) => begun.has(digest)),
      'readers only saw what was pushed',
    );
  const last = await Promise.all(cluster.proxyUrls.map((url) => tagAt(url, 'demo/app', 'moving')));
  t.equal(new Set(last).size, 1, 'all proxies agree');
  t.ok(acknowledged.has(last[0]!));
  t.equal(await tagAt(cluster.agents[0]!.url, 'demo/app', 'moving'), last[0]);
});

t.test('a later push is what every reader sees at once, through any proxy', async (t) => {
  await using cluster = await Constellation.start(t.testdir(), { proxies: 3, trackers: 1, agents: 1 });
  const [first, second] = [randomImage([3000]), randomImage([3000])];
  await pushUntilTaken(() => cluster.proxyUrls[0]!, 'demo/app', 'v1', first);
  for (const url of cluster.proxyUrls) t.equal(await tagAt(url, 'demo/app', 'v1'), first.manifestDigest);
  await pushUntilTaken(() => cluster.proxyUrls[1]!, 'demo/app', 'v1', second);
  for (const url of [...cluster.proxyUrls, cluster.agents[0]!.url])
    t.equal(await tagAt(url, 'demo/app', 'v1'), second.manifestDigest);
});

t.test('a restart of all origins keeps tags, blobs and links', async (t) => {
  await using cluster = await Constellation.start(t.testdir(), { proxies: 1, trackers: 1, agents: 1 });
  const image = randomImage([1_500_000, 700]);
  const [proxy] = cluster.proxyUrls;
  await pushUntilTaken(() => proxy!, 'demo/app', 'v1', image);
  for (const id of ORIGINS) await cluster.stopMember(id);
  for (const id of ORIGINS) await cluster.startMember(id);
  t.equal(await tagAt(proxy!, 'demo/app', 'v1'), image.manifestDigest);
  await pullUntilGiven(cluster.agents[0]!.url, 'demo/app', 'v1');
  const other = await watchedGet(`${proxy!}/v2/other/app/blobs/${image.layers[0]!.digest}`);
  t.equal(other.status, 404, 'links are as narrow as before');
  t.equal(await putManifest(proxy!, 'demo/app', 'v2', image), 201, 'the blobs are still linked');
});

t.test('one origin away: pushes and reads go on, and it catches up', async (t) => {
  await using cluster = await Constellation.start(t.testdir(), { proxies: 1, trackers: 1, agents: 1 });
  const [proxy] = cluster.proxyUrls;
  const [before, during] = [randomImage([300_000]), randomImage([1_300_000])];
  await pushUntilTaken(() => proxy!, 'demo/app', 'v1', before);
  await cluster.stopMember('origin-2');
  await pushUntilTaken(() => proxy!, 'demo/app', 'v1', during);
  t.equal(await tagAt(proxy!, 'demo/app', 'v1'), during.manifestDigest);
  await cluster.startMember('origin-2');
  await until(async () => {
    const owed = await Promise.all(
      cluster.originUrls.map((url) => cluster.ask<{ copiesOwed: number }>(url, '/v1/status')),
    );
    return owed.every((one) => one.copiesOwed === 0);
  }, 'no copy is owed any more');
  await cluster.stopMember('origin-1');
  await pullUntilGiven(cluster.agents[0]!.url, 'demo/app', 'v1');
  t.equal(await tagAt(proxy!, 'demo/app', 'v1'), during.manifestDigest);
});

t.test('a manifest whose blob is missing: MANIFEST_BLOB_UNKNOWN', async (t) => {
  await using cluster = await Constellation.start(t.testdir(), { proxies: 1, trackers: 1, agents: 0 });
  const image = randomImage([4000]);
  const answer = await request(`${cluster.proxyUrls[0]!}/v2/demo/app/manifests/v1`, {
    method: 'PUT',
    body: image.manifest,
    headers: { 'content-type': OCI_MANIFEST },
  });
  const body = (await answer.body.json()) as { errors: { code: string }[] };
  t.equal(answer.statusCode, 400);
  t.equal(body.errors[0]?.code, 'MANIFEST_BLOB_UNKNOWN');
  t.equal(await tagAt(cluster.proxyUrls[0]!, 'demo/app', 'v1'), undefined);
});

t.test('tags of an upstream: believed for the ttl, then asked again; stale when it is down', async (t) => {
  const upstream = await FakeUpstream.start();
  t.teardown(() => upstream.stop());
  await using cluster = await Constellation.start(t.testdir(), {
    proxies: 2,
    trackers: 1,
    agents: 1,
    upstreams: [
      {
        name: 'up',
        url: upstream.url,
        mode: 'pull-through',
        tags: { policy: 'revalidate', ttl: '2s' },
      },
      {
        name: 'strict',
        hosts: ['strict.test'],
        url: upstream.url,
        mode: 'pull-through',
        tags: { policy: 'revalidate', ttl: '1s', 'stale-limit': '2s' },
      },
    ],
  });
  const [one, two] = [makeImage({ layers: [1000], seed: 'one' }), makeImage({ layers: [1000], seed: 'two' })];
  upstream.push('team/app', one, 'latest');
  const tag = async () => await tagAt(cluster.agents[0]!.url, 'team/app', 'latest');
  t.equal(await tag(), one.manifest.digest);
  await until(async () => {
    const asked = upstream.requests('manifest').length;
    t.equal(await tag(), one.manifest.digest);
    return upstream.requests('manifest').length === asked;
  }, 'within the ttl the upstream is left alone');

  upstream.push('team/app', two, 'latest');
  await until(async () => (await tag()) === two.manifest.digest, 'the moved tag is seen after the ttl');
  for (const url of cluster.proxyUrls)
    t.equal(await tagAt(url, 'team/app', 'latest'), two.manifest.digest, 'all proxies agree');

  const url = `${cluster.agents[0]!.url}/v2/team/app/manifests/latest`;
  const strict = async () => await watchedGet(`${url}?ns=strict.test`);
  t.equal((await strict()).status, 200);
  await upstream.down();
  const stale = await until(async () => {
    const answer = await watchedGet(url);
    return answer.status !== 200 || answer.headers['sepia-stale'] !== undefined ? answer : undefined;
  }, 'the ttl is over');
  t.equal(stale.status, 200);
  t.match(stale.headers['sepia-stale'], /^\d+$/);
  t.equal(stale.headers['docker-content-digest'], two.manifest.digest);

  const late = await until(async () => {
    const answer = await strict();
    return answer.status === 200 ? undefined : answer;
  }, 'the stale limit is over');
  t.equal(late.status, 503);
  t.equal(ociError(late).code, 'UNAVAILABLE');
  await upstream.up();
  await until(async () => (await tag()) === two.manifest.digest, 'it is back');
});
