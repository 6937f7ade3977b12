import { randomBytes } from 'node:crypto';
import { digestOf } from '@sepia/base/digest';
import { Metainfo } from '@sepia/metainfo/metainfo';
import { OCI_MANIFEST } from '@sepia/oci/manifest';
import t from 'tap';
import { startCluster } from './support/cluster.ts';
import { startPullThrough } from './support/pull-through.ts';

const LOCAL = 'upstream=local&repository=team/app';

t.test('a push to one origin is pulled from every other', async (t) => {
  const c = await startCluster(t, { origins: 3 });
  const blob = randomBytes(3 * 1024 * 1024 + 17);
  const digest = digestOf(blob);
  const begun = await c.call('o1', { method: 'POST', path: `/v1/uploads?${LOCAL}` });
  t.equal(begun.status, 202);
  const { uploadId } = JSON.parse(begun.bytes.toString()) as { uploadId: string };
  t.match(uploadId, /^o1\.[0-9a-f]{32}$/);
  const part = await c.call('o1', {
    method: 'PATCH',
    path: `/v1/uploads/${uploadId}?${LOCAL}`,
    body: blob.subarray(0, 1_000_000),
    headers: { 'content-range': '0-999999' },
  });
  t.same(JSON.parse(part.bytes.toString()), { offset: 1_000_000 });
  const wrong = await c.call('o1', {
    method: 'PATCH',
    path: `/v1/uploads/${uploadId}?${LOCAL}`,
    body: blob.subarray(0, 10),
    headers: { 'content-range': '5-14' },
  });
  t.equal(wrong.status, 416);
  const done = await c.put(
    'o1',
    `/v1/uploads/${uploadId}?${LOCAL}&digest=${digest}`,
    blob.subarray(1_000_000),
  );
  t.equal(done.status, 201, done.bytes.toString());
  for (const id of c.ids) {
    const got = await c.get(id, `/v1/blobs/${digest}?${LOCAL}`);
    t.equal(got.status, 200, `${id} ${got.bytes.subarray(0, 200).toString()}`);
    t.ok(got.bytes.equals(blob), id);
    const other = await c.get(id, `/v1/blobs/${digest}?upstream=local&repository=other/app`);
    t.equal(other.status, 404, 'a digest opens nothing in another repository');
    const head = await c.call(id, { method: 'HEAD', path: `/v1/blobs/${digest}?${LOCAL}` });
    t.equal(head.headers['content-length'], String(blob.length));
    const known = await c.call(id, {
      method: 'HEAD',
      path: `/v1/blobs/${digest}?${LOCAL}`,
      headers: { 'if-none-match': `"${digest}"` },
    });
    t.equal(known.status, 304, 'HEAD knows what a client has, as GET does');
    const ranged = await c.get(id, `/v1/blobs/${digest}?${LOCAL}`, { range: 'bytes=1048570-1048580' });
    t.equal(ranged.status, 206);
    t.ok(ranged.bytes.equals(blob.subarray(1048570, 1048581)));
  }
  const meta = await c.get('o2', `/v1/blobs/${digest}/metainfo?${LOCAL}`);
  t.equal(Metainfo.decode(meta.bytes).state, 'final');

  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: OCI_MANIFEST,
      config: { mediaType: 'application/vnd.oci.image.config.v1+json', digest, size: blob.length },
      layers: [],
    }),
  );
  const put = await c.put('o2', `/v1/manifests?${LOCAL}&reference=v1`, manifest, {
    'content-type': OCI_MANIFEST,
  });
  t.equal(put.status, 201, put.bytes.toString());
  for (const id of c.ids) {
    const got = await c.get(id, `/v1/manifests?${LOCAL}&reference=v1`);
    t.equal(got.status, 200, got.bytes.toString());
    t.ok(got.bytes.equals(manifest));
    t.equal(got.headers['content-type'], OCI_MANIFEST);
    t.equal(got.headers['docker-content-digest'], digestOf(manifest));
  }
  const tags = await c.get('o3', `/v1/tags?${LOCAL}`);
  t.same(JSON.parse(tags.bytes.toString()), { tags: ['v1'] });
  const missing = await c.put(
    'o3',
    `/v1/manifests?upstream=local&repository=other/app&reference=v1`,
    manifest,
    { 'content-type': OCI_MANIFEST },
  );
  t.equal(missing.status, 400);
  t.match(missing.bytes.toString(), /MANIFEST_BLOB_UNKNOWN/);
  const mounted = await c.call('o3', {
    method: 'POST',
    path: `/v1/mounts?upstream=local&repository=other/app&from=team/app&digest=${digest}`,
  });
  t.equal(mounted.status, 201);
  const status = await c.get('o3', '/v1/status');
  t.equal(status.status, 200, status.bytes.toString());
});

t.test('a cold blob is fetched once for the cluster', async (t) => {
  const { upstream, c } = await startPullThrough(t, 3);
  const blob = randomBytes(5 * 1024 * 1024 + 3);
  const digest = upstream.addBlob(blob);
  upstream.addManifest(
    'lib/x',
    'v1',
    {
      schemaVersion: 2,
      mediaType: OCI_MANIFEST,
      layers: [{ mediaType: 'application/octet-stream', digest, size: blob.length }],
    },
    OCI_MANIFEST,
  );
  const hub = 'upstream=hub&repository=lib/x';
  for (const id of c.ids) {
    const got = await c.get(id, `/v1/manifests?${hub}&reference=v1`);
    t.equal(got.status, 200, got.bytes.toString());
  }
  t.equal(
    upstream.requests.filter((one) => one.includes('manifests')).length,
    1,
    upstream.requests.join('\n'),
  );
  const got = await Promise.all(c.ids.map(async (id) => await c.get(id, `/v1/blobs/${digest}?${hub}`)));
  for (const one of got) t.ok(one.bytes.equals(blob), `${one.status} ${one.bytes.length}`);
  t.equal(
    upstream.requests.filter((one) => one.startsWith('GET /v2/lib/x/blobs')).length,
    1,
    upstream.requests.join('\n'),
  );
  const meta = await c.get('o1', `/v1/blobs/${digest}/metainfo?${hub}&fetch=1`);
  t.equal(Metainfo.decode(meta.bytes).state, 'final');
});
