import { digestOf } from '@sepia/base/digest';
import { OCI_INDEX, OCI_MANIFEST } from '@sepia/oci/manifest';
import { pushUntilTaken, randomImage } from '@sepia/test-support/clients/registry-client';
import { Constellation } from '@sepia/test-support/cluster/constellation';
import { FakeUpstream, makeImage } from '@sepia/test-support/upstream/fake-upstream';
import t from 'tap';
import { request } from 'undici';

const MIB = 1024 * 1024;

async function get(url: string): Promise<{ status: number; bytes: Buffer }> {
  const answer = await request(url, { headersTimeout: 60_000 });
  return { status: answer.statusCode, bytes: Buffer.from(await answer.body.arrayBuffer()) };
}

t.test('a manifest that names a digest opens nothing: the upstream must have it there', async (t) => {
  const hub = await FakeUpstream.start();
  t.teardown(() => hub.stop());
  await using cluster = await Constellation.start(t.testdir(), {
    origins: 7,
    proxies: 3,
    trackers: 1,
    agents: 2,
    upstreams: [
      { name: 'local', mode: 'none' },
      { name: 'hub', url: hub.url, mode: 'pull-through', hosts: ['hub.test'] },
    ],
  });
  const secret = randomImage([3 * MIB, 20_000]);
  await pushUntilTaken(() => cluster.proxyUrls[0]!, 'team/secret', 'v1', secret);
  const other = makeImage({ layers: [2 * MIB], seed: 'another repository of the hub' });
  hub.push('team/other', other, 'v1');
  const doors = [...cluster.agents.map(({ url }) => url), ...cluster.proxyUrls];
  // All of it lies in every cache.
  for (const door of doors) {
    for (const { digest } of secret.layers)
      t.equal((await get(`${door}/v2/team/secret/blobs/${digest}`)).status, 200);
    t.equal((await get(`${door}/v2/team/secret/manifests/v1`)).status, 200);
    t.equal((await get(`${door}/v2/team/other/manifests/v1?ns=hub.test`)).status, 200);
    t.equal((await get(`${door}/v2/team/other/blobs/${other.layers[0]}?ns=hub.test`)).status, 200);
  }

  const config = Buffer.from('{}');
  hub.addBlob('evil/app', config);
  const descriptor = (digest: string, size: number, mediaType: string) => ({ digest, size, mediaType });
  const layer = 'application/vnd.oci.image.layer.v1.tar';
  const foreign = 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip';
  const image = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: OCI_MANIFEST,
      config: descriptor(digestOf(config), 2, 'application/vnd.oci.image.config.v1+json'),
      layers: [
        descriptor(secret.layers[0]!.digest, 3 * MIB, foreign),
        descriptor(secret.layers[1]!.digest, 20_000, layer),
        descriptor(other.layers[0]!, 2 * MIB, layer),
      ],
    }),
  );
  const index = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: OCI_INDEX,
      manifests: [descriptor(secret.manifestDigest, secret.manifest.length, OCI_MANIFEST)],
    }),
  );
  for (const [tag, mediaType, bytes] of [
    ['image', OCI_MANIFEST, image],
    ['index', OCI_INDEX, index],
  ] as const)
    hub.addManifest('evil/app', { digest: digestOf(bytes), mediaType, bytes }, tag);

  const wanted = [
    ...secret.layers.map(({ digest }) => `blobs/${digest}`),
    `blobs/${other.layers[0]}`,
    `manifests/${secret.manifestDigest}`,
    `blobs/${secret.manifestDigest}`,
  ];
  for (const door of doors) {
    for (const tag of ['image', 'index'])
      t.equal((await get(`${door}/v2/evil/app/manifests/${tag}?ns=hub.test`)).status, 200, tag);
    for (const path of wanted) {
      const { status } = await get(`${door}/v2/evil/app/${path}?ns=hub.test`);
      t.equal(status, 404, `${door} ${path}`);
    }
  }

  await t.test(
    'what the upstream has in that repository as well is served, and asked for once',
    async (t) => {
      hub.addBlob('evil/app', other.blobs.get(other.layers[0]!)!);
      const url = (door: string): string => `${door}/v2/evil/app/blobs/${other.layers[0]}?ns=hub.test`;
      const before = hub.requests('blob', 'GET').length;
      for (const door of doors) {
        const { status, bytes } = await get(url(door));
        t.equal(status, 200, door);
        t.ok(bytes.equals(other.blobs.get(other.layers[0]!)!), door);
      }
      t.equal(hub.requests('blob', 'GET').length, before, 'no byte left the upstream again');
    },
  );
});

t.test('a private blob that is just being fetched is not shared with who only names it', async (t) => {
  const hub = await FakeUpstream.start();
  t.teardown(() => hub.stop());
  await using cluster = await Constellation.start(t.testdir(), {
    trackers: 1,
    proxies: 1,
    agents: 2,
    upstreams: [{ name: 'hub', url: hub.url, mode: 'pull-through' }],
  });
  const secret = makeImage({ layers: [6 * MIB], seed: 'on its way' });
  hub.push('team/secret', secret, 'v1');
  const layer = secret.layers[0]!;
  const bytes = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: OCI_MANIFEST,
      layers: [{ digest: layer, size: 6 * MIB, mediaType: 'application/vnd.oci.image.layer.v1.tar' }],
    }),
  );
  hub.addManifest('evil/app', { digest: digestOf(bytes), mediaType: OCI_MANIFEST, bytes }, 'v1');
  hub.misbehave({ method: 'GET', kind: 'blob', path: layer, does: { type: 'slow', bytesPerSec: 2 * MIB } });
  const [first, second] = cluster.agents.map(({ url }) => url);
  for (const door of [first, second, cluster.proxyUrls[0]]) await get(`${door}/v2/evil/app/manifests/v1`);
  await get(`${first}/v2/team/secret/manifests/v1`);
  const pull = get(`${first}/v2/team/secret/blobs/${layer}`);
  await new Promise<void>((resolve) => {
    const watch = setInterval(() => {
      if (hub.requests('blob', 'GET').length === 0) return;
      clearInterval(watch);
      resolve();
    }, 20);
  });
  const tries = await Promise.all(
    [first, second, cluster.proxyUrls[0]].map((door) => get(`${door}/v2/evil/app/blobs/${layer}`)),
  );
  t.same(
    tries.map(({ status }) => status),
    [404, 404, 404],
  );
  t.equal((await pull).bytes.length, 6 * MIB);
});
