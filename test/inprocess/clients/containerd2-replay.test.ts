import { Constellation } from '@sepia/test-support/cluster/constellation';
import { FakeUpstream, makeImage } from '@sepia/test-support/upstream/fake-upstream';
import t from 'tap';
import { request } from 'undici';

const MIB = 1024 * 1024;
const CHUNK = 2 * MIB;
/** What containerd 2.x sends with every GET; the answer must still be the blob's own bytes. */
const ENCODINGS = 'zstd;q=1.0, gzip;q=0.8, deflate;q=0.5';
const ACCEPT =
  'application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json, ' +
  'application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, */*';

t.test('containerd 2.x: a layer in parallel ranges is one download behind the agent', async (t) => {
  const upstream = await FakeUpstream.start();
  t.teardown(() => upstream.stop());
  const image = makeImage({ layers: [9 * MIB + 5], seed: 'containerd2' });
  upstream.push('team/app', image, 'v1');
  upstream.misbehave({ kind: 'blob', does: { type: 'slow', bytesPerSec: 12 * MIB } });
  await using cluster = await Constellation.start(t.testdir(), {
    agents: 1,
    upstreams: [{ name: 'up', url: upstream.url, hosts: ['registry.example:5000'], mode: 'pull-through' }],
  });
  const base = `${cluster.agents[0]!.url}/v2/team/app`;
  const ns = 'ns=registry.example%3A5000';
  const head = await request(`${base}/manifests/v1?${ns}`, { method: 'HEAD', headers: { accept: ACCEPT } });
  await head.body.dump();
  t.equal(head.headers['docker-content-digest'], image.manifest.digest);
  const manifest = await request(`${base}/manifests/${image.manifest.digest}?${ns}`, {
    headers: { accept: `${image.manifest.mediaType}, */*`, 'accept-encoding': ENCODINGS },
  });
  t.ok(Buffer.from(await manifest.body.arrayBuffer()).equals(image.manifest.bytes));

  const digest = image.layers[0]!;
  const content = image.blobs.get(digest)!;
  const url = `${base}/blobs/${digest}?${ns}`;
  const part = async (range: string) => {
    const answer = await request(url, { headers: { range, accept: '*/*', 'accept-encoding': ENCODINGS } });
    t.equal(answer.statusCode, 206, range);
    t.equal(answer.headers['content-encoding'], undefined);
    return { total: answer.headers['content-range'], body: answer.body };
  };
  // The first request asks from 0 on and is read for one chunk; the others run beside it.
  const first = await part('bytes=0-');
  t.equal(first.total, `bytes 0-${content.length - 1}/${content.length}`);
  const others: Promise<Buffer>[] = [];
  for (let start = CHUNK; start < content.length; start += CHUNK) {
    const end = Math.min(start + CHUNK, content.length) - 1;
    others.push(
      part(`bytes=${start}-${end}`).then(async ({ body }) => Buffer.from(await body.arrayBuffer())),
    );
  }
  const chunks: Buffer[] = [];
  let read = 0;
  for await (const chunk of first.body) {
    chunks.push(chunk as Buffer);
    read += (chunk as Buffer).length;
    if (read >= CHUNK) break;
  }
  const whole = Buffer.concat([Buffer.concat(chunks).subarray(0, CHUNK), ...(await Promise.all(others))]);
  t.ok(whole.equals(content), 'the chunks make up the layer');
  t.ok(
    upstream.blobBytes <= content.length * 1.25,
    `${(upstream.blobBytes / content.length).toFixed(2)} copies left the upstream`,
  );
});
