import { randomBytes } from 'node:crypto';
import { digestOf } from '@sepia/base/digest';
import { Constellation } from '@sepia/test-support/cluster/constellation';
import { FakeUpstream } from '@sepia/test-support/upstream/fake-upstream';
import t from 'tap';
import { request } from 'undici';

const MANIFEST = 'application/vnd.oci.image.manifest.v1+json';

t.test("a size in a manifest that is not the blob's stops nobody, at agents and at proxies", async (t) => {
  const upstream = await FakeUpstream.start();
  t.teardown(() => upstream.stop());
  await using cluster = await Constellation.start(t.testdir(), {
    agents: 1,
    upstreams: [{ name: 'up', url: upstream.url, mode: 'pull-through' }],
  });
  for (const [name, url] of [
    ['agent', cluster.agents[0]!.url],
    ['proxy', cluster.proxyUrls[0]!],
  ] as const) {
    for (const [bytes, told] of [
      [900_000, 900_001],
      [900_000, 0],
      [900_000, 5_000],
      [5_000, 900_000],
      [5_000, 4_999],
      [3_500_000, 1_400_000],
      [3_500_000, 200_000],
    ] as const) {
      const blob = randomBytes(bytes);
      const digest = upstream.addBlob('team/app', blob);
      const layers = [{ mediaType: 'application/octet-stream', digest, size: told }];
      const manifest = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: MANIFEST, layers }));
      const tag = `t${bytes}-${told}-${name}`;
      const whole = { digest: digestOf(manifest), mediaType: MANIFEST, bytes: manifest };
      upstream.addManifest('team/app', whole, tag);
      const what = `${name}: ${told} of ${bytes}`;
      const asked = await request(`${url}/v2/team/app/manifests/${tag}`);
      t.equal(asked.statusCode, 200, what);
      await asked.body.dump();
      const head = await request(`${url}/v2/team/app/blobs/${digest}`, { method: 'HEAD' });
      await head.body.dump();
      t.equal(head.headers['content-length'], String(bytes), `${what}: HEAD`);
      const got = await request(`${url}/v2/team/app/blobs/${digest}`);
      t.equal(got.statusCode, 200, what);
      t.ok(blob.equals(Buffer.from(await got.body.arrayBuffer())), `${what}: GET`);
    }
  }
});
