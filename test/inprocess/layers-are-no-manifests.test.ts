import { randomBytes } from 'node:crypto';
import { digestOf } from '@sepia/base/digest';
import { OCI_INDEX } from '@sepia/oci/manifest';
import { Constellation } from '@sepia/test-support/cluster/constellation';
import t from 'tap';
import { request } from 'undici';

t.test('the layers that an index names are blobs, and 404 as manifests, at every member', async (t) => {
  await using cluster = await Constellation.start(t.testdir(), { origins: 5, proxies: 1, agents: 1 });
  const proxy = cluster.proxyUrls[0]!;
  const config = Buffer.from(JSON.stringify({ layers: [{ blob: 'x', parent: -1 }], records: [] }));
  const kinds: [string, Buffer][] = [
    ['application/vnd.oci.image.layer.v1.tar+gzip', randomBytes(50_000)],
    ['application/vnd.oci.image.layer.v1.tar+zstd', randomBytes(2_000_000)],
    ['application/vnd.buildkit.cacheconfig.v0', config],
    ['application/vnd.oci.image.manifest.v1+json', randomBytes(3_000)],
    ['application/vnd.oci.image.layer.v1.tar', randomBytes(5_000_000)],
    ['application/vnd.oci.image.manifest.v1+json', randomBytes(5_100_000)],
  ];
  const manifests = [];
  for (const [mediaType, bytes] of kinds) {
    const digest = digestOf(bytes);
    const pushed = await request(`${proxy}/v2/build/cache/blobs/uploads/?digest=${digest}`, {
      method: 'POST',
      headers: { 'content-type': 'application/octet-stream' },
      body: bytes,
    });
    await pushed.body.dump();
    t.equal(pushed.statusCode, 201);
    manifests.push({ mediaType, digest, size: bytes.length });
  }
  const index = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: OCI_INDEX, manifests }));
  const put = await request(`${proxy}/v2/build/cache/manifests/v1`, {
    method: 'PUT',
    headers: { 'content-type': OCI_INDEX },
    body: index,
  });
  t.equal(put.statusCode, 201);
  await put.body.dump();
  for (const base of [proxy, cluster.agents[0]!.url]) {
    for (const { mediaType, digest } of manifests) {
      for (const method of ['HEAD', 'GET'] as const) {
        const blob = await request(`${base}/v2/build/cache/blobs/${digest}`, { method });
        await blob.body.dump();
        t.equal(blob.statusCode, 200, `${method} ${mediaType} as a blob`);
        const manifest = await request(`${base}/v2/build/cache/manifests/${digest}`, { method });
        await manifest.body.dump();
        t.equal(manifest.statusCode, 404, `${method} ${mediaType} as a manifest`);
      }
    }
    const whole = await request(`${base}/v2/build/cache/manifests/${digestOf(index)}`);
    t.equal(whole.statusCode, 200);
    t.ok(Buffer.from(await whole.body.arrayBuffer()).equals(index));
  }
});
