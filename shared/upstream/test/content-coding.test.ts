import { createServer } from 'node:http';
import { brotliCompressSync, deflateRawSync, deflateSync, gzipSync, zstdCompressSync } from 'node:zlib';
import { digestOf } from '@sepia/base/digest';
import { OCI_MANIFEST } from '@sepia/oci/manifest';
import { parseReference } from '@sepia/oci/route';
import { seededBytes } from '@sepia/test-support/upstream/fake-upstream';
import t, { type Test } from 'tap';
import type { UpstreamClient } from '../src/upstream-client.ts';
import { clientOf, failure, readAll, REPOSITORY as repository, soon } from './client-fixture.ts';

const CODERS = {
  gzip: gzipSync,
  'x-gzip': gzipSync,
  deflate: deflateSync,
  br: brotliCompressSync,
  zstd: zstdCompressSync,
  'gzip, identity': gzipSync,
  'gzip, , GZIP': (bytes: Buffer): Buffer => gzipSync(gzipSync(bytes)),
  'deflate, gzip': (bytes: Buffer): Buffer => gzipSync(deflateRawSync(bytes)),
};
const BYTES = seededBytes(300_000, 'coded');
const DIGEST = digestOf(BYTES);

interface Coded {
  readonly coding: string;
  readonly body: Buffer;
  readonly type?: string;
  readonly digest?: string;
  readonly range?: string;
}

/** A registry that answers everything with one encoded body. */
async function registry(t: Test, { coding, body, type, digest, range }: Coded): Promise<UpstreamClient> {
  const server = createServer((req, res) => {
    const isPart = range !== undefined && req.headers.range !== undefined;
    res.writeHead(isPart ? 206 : 200, {
      'content-encoding': coding,
      'content-length': body.length,
      'content-type': type ?? 'application/octet-stream',
      ...(digest === undefined ? {} : { 'docker-content-digest': digest }),
      ...(isPart ? { 'content-range': range } : {}),
    });
    res.end(req.method === 'HEAD' ? undefined : body);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  return clientOf(t, `http://127.0.0.1:${(server.address() as { port: number }).port}`);
}

for (const [coding, encode] of Object.entries(CODERS)) {
  t.test(`${coding} that nobody asked for is taken off`, async (t) => {
    const client = await registry(t, { coding, body: encode(BYTES) });
    t.strictSame(await client.headBlob({ repository, digest: DIGEST }, soon()), { sizeBytes: undefined });
    const blob = await client.getBlob({ repository, digest: DIGEST }, soon());
    t.equal(blob.sizeBytes, undefined, 'its length is not that of the blob');
    t.ok(BYTES.equals(await readAll(blob.body)));

    const manifest = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: OCI_MANIFEST, layers: [] }));
    for (const digest of [digestOf(manifest), undefined]) {
      const one = await registry(t, {
        coding,
        body: encode(manifest),
        type: OCI_MANIFEST,
        ...(digest === undefined ? {} : { digest }),
      });
      const got = await one.getManifest({ repository, reference: parseReference('v1') }, soon());
      t.ok(got.bytes.equals(manifest));
      t.equal(got.digest, digestOf(manifest));
      const byDigest = parseReference(digestOf(manifest));
      t.ok((await one.getManifest({ repository, reference: byDigest }, soon())).bytes.equals(manifest));
      const head = await one.headManifest({ repository, reference: parseReference('v1') }, soon());
      t.not(head.sizeBytes, encode(manifest).length);
    }
    const tags = await registry(t, {
      coding,
      body: encode(Buffer.from('{"tags":["a"]}')),
      type: 'application/json',
    });
    t.strictSame((await tags.listTags({ repository }, soon())).tags, ['a']);
  });
}

t.test(
  'deflate without the wrapping of zlib is known as well; one that is damaged or cut is refused',
  async (t) => {
    const raw = deflateRawSync(BYTES);
    const client = await registry(t, { coding: 'deflate', body: raw });
    const blob = await client.getBlob({ repository, digest: DIGEST }, soon());
    t.ok(BYTES.equals(await readAll(blob.body)));
    for (const body of [raw.subarray(0, -30), Buffer.concat([raw.subarray(0, 5), Buffer.alloc(500, 255)])]) {
      const bad = await registry(t, { coding: 'deflate', body });
      const found = await bad.getBlob({ repository, digest: DIGEST }, soon());
      await t.rejects(readAll(found.body));
    }
  },
);

t.test('a coding that is not known is left: the digest says whether it is the blob', async (t) => {
  for (const coding of ['aes', 'gzip, aes', 'gzip, gzip, gzip, gzip']) {
    const client = await registry(t, { coding, body: BYTES });
    const blob = await client.getBlob({ repository, digest: DIGEST }, soon());
    t.ok(BYTES.equals(await readAll(blob.body)), coding);
  }
});

/** Two frames with a skippable one between them; `skippable`: 4 bytes of it. */
function manyFrames(): Buffer {
  const skippable = Buffer.from('502a4d1804000000aabbccdd', 'hex');
  const [first, second] = [BYTES.subarray(0, 100_000), BYTES.subarray(100_000)];
  return Buffer.concat([zstdCompressSync(first), skippable, zstdCompressSync(second), zstdCompressSync('')]);
}

t.test('a zstd body of several frames: all of them, or none', async (t) => {
  const body = manyFrames();
  const whole = await registry(t, { coding: 'zstd', body });
  const blob = await whole.getBlob({ repository, digest: DIGEST }, soon());
  t.ok(BYTES.equals(await readAll(blob.body)), 'as a stream');
  const tags = Buffer.from('{"tags":["a","b"]}');
  const parts = Buffer.concat([zstdCompressSync(tags.subarray(0, 7)), zstdCompressSync(tags.subarray(7))]);
  const list = await registry(t, { coding: 'zstd', body: parts, type: 'application/json' });
  t.strictSame((await list.listTags({ repository }, soon())).tags, ['a', 'b']);
  const text = JSON.stringify({ schemaVersion: 2, mediaType: OCI_MANIFEST, layers: [] });
  const manifest = Buffer.concat([zstdCompressSync(text.slice(0, 20)), zstdCompressSync(text.slice(20))]);
  const one = await registry(t, { coding: 'zstd', body: manifest, type: OCI_MANIFEST });
  const got = await one.getManifest({ repository, reference: parseReference('v1') }, soon());
  t.equal(got.bytes.toString(), text, 'in memory');
});

t.test('a zstd body that is cut or ends with something else is refused', async (t) => {
  const frames = manyFrames();
  for (const body of [frames.subarray(0, -30), Buffer.concat([frames, Buffer.from('garbage')])]) {
    const client = await registry(t, { coding: 'zstd', body });
    const blob = await client.getBlob({ repository, digest: DIGEST }, soon());
    await failure(readAll(blob.body), 'BACKEND_DOWN');
  }
});

t.test('a compressed blob whose own bytes are said to be encoded is left as it is', async (t) => {
  const layer = gzipSync(BYTES);
  const digest = digestOf(layer);
  const client = await registry(t, { coding: 'gzip', body: layer });
  const known = await client.getBlob({ repository, digest, sizeBytes: layer.length }, soon());
  t.equal(known.sizeBytes, layer.length);
  t.ok(layer.equals(await readAll(known.body)));
  const asSent = await client.getBlob({ repository, digest, asSent: true }, soon());
  t.ok(layer.equals(await readAll(asSent.body)));
});

t.test('a range of encoded bytes is no range of the blob', async (t) => {
  const body = Buffer.alloc(10);
  const client = await registry(t, { coding: 'gzip', body, range: 'bytes 10-19/5000' });
  const range = { start: 10, end: 19 };
  await failure(client.getBlob({ repository, digest: DIGEST, range }, soon()), 'RANGE_INVALID');
  const own = await client.getBlob({ repository, digest: DIGEST, range, sizeBytes: 5000 }, soon());
  t.equal(own.status, 'partial', 'unless the blob is that long');
  own.body.destroy();
});

t.test('a body that is not as it says is an error, and so is one that grows without end', async (t) => {
  const client = await registry(t, { coding: 'gzip', body: Buffer.from('no gzip') });
  const { body } = await client.getBlob({ repository, digest: DIGEST }, soon());
  await failure(readAll(body), 'BACKEND_DOWN');
  const bomb = await registry(t, {
    coding: 'gzip',
    body: gzipSync(Buffer.alloc(64 * 1024 * 1024)),
    type: OCI_MANIFEST,
  });
  const query = { repository, reference: parseReference(DIGEST) };
  await failure(bomb.getManifest(query, soon()), 'UPSTREAM_LIES');
});
