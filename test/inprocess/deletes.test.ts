import type { Digest } from '@sepia/base/digest';
import { call, callUntilAnswered } from '@sepia/test-support/clients/registry-calls';
import {
  pullUntilGiven,
  pushImage,
  pushUntilTaken,
  randomImage,
} from '@sepia/test-support/clients/registry-client';
import { Constellation } from '@sepia/test-support/cluster/constellation';
import { until } from '@sepia/test-support/until';
import t, { type Test } from 'tap';

const REPOSITORY = 'team/app';

async function bigCluster(t: Test, agents = 2): Promise<Constellation> {
  return await Constellation.start(t.testdir(), {
    origins: 7,
    proxies: 3,
    agents,
    upstreams: [
      { name: 'local', mode: 'none' },
      { name: 'other', mode: 'none', hosts: ['other.test'] },
    ],
  });
}

/** Each call goes to the next proxy. */
function inTurn(cluster: Constellation): () => string {
  let at = 0;
  return () => cluster.proxyUrls[at++ % cluster.proxyUrls.length]!;
}

async function statusOf(url: string, path: string, method: 'GET' | 'HEAD' = 'GET'): Promise<number> {
  return (await callUntilAnswered(method, `${url}/v2/${REPOSITORY}/${path}`)).status;
}

t.test('a deleted manifest is gone at every proxy at once, at agents within a heartbeat', async (t) => {
  await using cluster = await bigCluster(t);
  const proxy = inTurn(cluster);
  const image = randomImage([300_000, 2_000]);
  const kept = randomImage([1_000]);
  await pushUntilTaken(proxy, REPOSITORY, 'v1', image);
  await pushUntilTaken(proxy, REPOSITORY, 'v2', image);
  await pushUntilTaken(proxy, REPOSITORY, 'kept', kept);
  for (const { url } of cluster.agents) await pullUntilGiven(url, REPOSITORY, 'v1');
  for (const url of cluster.proxyUrls) await pullUntilGiven(url, REPOSITORY, 'v1');

  const gone = await call('DELETE', `${proxy()}/v2/${REPOSITORY}/manifests/${image.manifestDigest}`);
  t.equal(gone.status, 202);
  for (const url of cluster.proxyUrls) {
    t.equal(await statusOf(url, `manifests/${image.manifestDigest}`), 404, 'by digest');
    t.equal(await statusOf(url, `manifests/${image.manifestDigest}`, 'HEAD'), 404, 'by digest, HEAD');
    t.equal(await statusOf(url, 'manifests/v1'), 404, 'by tag');
    const { tags } = (await callUntilAnswered('GET', `${url}/v2/${REPOSITORY}/tags/list`)).json<{
      tags: string[];
    }>();
    t.same(tags, ['kept']);
    await pullUntilGiven(url, REPOSITORY, 'kept');
  }
  for (const { url } of cluster.agents) {
    t.equal(await statusOf(url, 'manifests/v1'), 404, 'an agent asks for tags');
    const path = `manifests/${image.manifestDigest}`;
    await until(async () => (await statusOf(url, path)) === 404, 'the agent heard of it');
    t.equal(await statusOf(url, path, 'HEAD'), 404);
  }
  const again = await call('DELETE', `${proxy()}/v2/${REPOSITORY}/manifests/${image.manifestDigest}`);
  t.equal(again.status, 404);
  t.equal(again.code, 'MANIFEST_UNKNOWN');

  await pushUntilTaken(proxy, REPOSITORY, 'v1', image);
  for (const url of [...cluster.proxyUrls, ...cluster.agents.map((agent) => agent.url)])
    await pullUntilGiven(url, REPOSITORY, 'v1');
});

t.test('a deleted blob is gone in its repository alone, and may be pushed again at once', async (t) => {
  await using cluster = await bigCluster(t);
  const proxy = inTurn(cluster);
  const image = randomImage([400_000]);
  const layer = image.layers[0]!.digest;
  await pushUntilTaken(proxy, REPOSITORY, 'v1', image);
  await pushUntilTaken(proxy, 'team/twin', 'v1', image);
  for (const { url } of cluster.agents) {
    await pullUntilGiven(url, REPOSITORY, 'v1');
    await pullUntilGiven(url, 'team/twin', 'v1');
  }
  for (let round = 1; round <= 3; round++) {
    t.equal((await call('DELETE', `${proxy()}/v2/${REPOSITORY}/blobs/${layer}`)).status, 202);
    for (const url of cluster.proxyUrls) {
      t.equal(await statusOf(url, `blobs/${layer}`), 404);
      t.equal(await statusOf(url, `blobs/${layer}`, 'HEAD'), 404);
    }
    for (const { url } of cluster.agents) {
      await until(async () => (await statusOf(url, `blobs/${layer}`, 'HEAD')) === 404, 'heard of it');
      t.equal(await statusOf(url, `blobs/${layer}`), 404);
      await pullUntilGiven(url, 'team/twin', 'v1');
    }
    await pushUntilTaken(proxy, REPOSITORY, 'v1', image);
    for (const { url } of cluster.agents) await pullUntilGiven(url, REPOSITORY, 'v1');
  }
});

t.test('a tag that is moved while its manifest is deleted stays', async (t) => {
  await using cluster = await bigCluster(t, 0);
  const proxy = inTurn(cluster);
  const [first, second] = [randomImage([1_000]), randomImage([1_000])];
  await pushUntilTaken(proxy, REPOSITORY, 'second', second);
  for (let round = 0; round < 4; round++) {
    await pushUntilTaken(proxy, REPOSITORY, 'moving', first);
    const [, deleted] = await Promise.all([
      pushUntilTaken(proxy, REPOSITORY, 'moving', second),
      call('DELETE', `${proxy()}/v2/${REPOSITORY}/manifests/${first.manifestDigest}`),
    ]);
    t.equal(deleted.status, 202);
    const head = await callUntilAnswered('HEAD', `${proxy()}/v2/${REPOSITORY}/manifests/moving`);
    t.equal(head.headers['docker-content-digest'], second.manifestDigest, `round ${round}`);
  }
});

t.test('deleting a tag leaves its manifest', async (t) => {
  await using cluster = await bigCluster(t, 1);
  const proxy = inTurn(cluster);
  const image = randomImage([1_000]);
  for (const tag of ['a', 'b']) await pushUntilTaken(proxy, REPOSITORY, tag, image);
  await pullUntilGiven(cluster.agents[0]!.url, REPOSITORY, 'a');
  t.equal((await call('DELETE', `${proxy()}/v2/${REPOSITORY}/manifests/a`)).status, 202);
  t.equal((await call('DELETE', `${proxy()}/v2/${REPOSITORY}/manifests/a`)).status, 404);
  for (const url of [...cluster.proxyUrls, cluster.agents[0]!.url]) {
    t.equal(await statusOf(url, 'manifests/a'), 404);
    t.equal(await statusOf(url, 'manifests/b'), 200);
    t.equal(await statusOf(url, `manifests/${image.manifestDigest}`), 200);
  }
});

t.test('an owner that missed a delete, or a push after one, does not bring back what was', async (t) => {
  await using cluster = await Constellation.start(t.testdir(), { origins: 3, proxies: 1, agents: 0 });
  const proxy = (): string => cluster.proxyUrls[0]!;
  const image = randomImage([1_000]);
  const layer = image.layers[0]!.digest as Digest;
  const paths = [`manifests/${image.manifestDigest}`, 'manifests/v1', `blobs/${layer}`];
  await pushUntilTaken(proxy, REPOSITORY, 'v1', image);

  await cluster.stopMember('origin-3');
  for (const path of [paths[0]!, paths[2]!])
    t.equal((await call('DELETE', `${proxy()}/v2/${REPOSITORY}/${path}`)).status, 202);
  await cluster.startMember('origin-3');
  for (const other of ['origin-1', 'origin-2']) {
    await cluster.stopMember(other);
    for (const path of paths) t.equal(await statusOf(proxy(), path), 404, `${path} without ${other}`);
    t.equal(
      (await callUntilAnswered('GET', `${proxy()}/v2/${REPOSITORY}/tags/list`)).json<{ tags: [] }>().tags
        ?.length ?? 0,
      0,
    );
    await cluster.startMember(other);
  }

  await cluster.stopMember('origin-1');
  // The first tries may meet connections of the members that were just started again.
  const pushed = (): Promise<boolean> =>
    pushImage(proxy, REPOSITORY, 'v1', image).then(
      () => true,
      () => false,
    );
  await until(pushed, 'a push with one of three down');
  await cluster.startMember('origin-1');
  for (const other of ['origin-2', 'origin-3']) {
    await cluster.stopMember(other);
    for (const path of paths) t.equal(await statusOf(proxy(), path), 200, `${path} without ${other}`);
    await cluster.startMember(other);
  }
});

t.test('an immutable image cannot be taken away through the blobs route', async (t) => {
  await using cluster = await Constellation.start(t.testdir(), {
    origins: 3,
    proxies: 2,
    agents: 0,
    upstreams: [{ name: 'imm', mode: 'none', tags: { policy: 'immutable' } }],
  });
  const proxy = inTurn(cluster);
  const image = randomImage([1_000, 2_000]);
  await pushUntilTaken(proxy, REPOSITORY, 'v1', image);
  const gone = async (path: string) => await call('DELETE', `${proxy()}/v2/${REPOSITORY}/${path}`);
  const asBlob = await gone(`blobs/${image.manifestDigest}`);
  t.equal(asBlob.status, 404);
  t.equal(asBlob.code, 'BLOB_UNKNOWN');
  for (const path of [`blobs/${image.layers[1]!.digest}`, `manifests/${image.manifestDigest}`])
    t.match(await gone(path), { status: 403, code: 'DENIED' }, path);
  for (const url of cluster.proxyUrls) await pullUntilGiven(url, REPOSITORY, 'v1');
});
