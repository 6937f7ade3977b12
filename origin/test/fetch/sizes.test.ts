import { randomBytes } from 'node:crypto';
import type { Digest } from '@sepia/base/digest';
import { OCI_MANIFEST } from '@sepia/oci/manifest';
import t, { type Test } from 'tap';
import { type PullThrough, startPullThrough } from '../support/pull-through.ts';

const HUB = 'upstream=hub&repository=lib/x';
const MIB = 1024 * 1024;

const setUp = async (t: Test): Promise<PullThrough> =>
  await startPullThrough(t, 1, {}, { config: "deadlines: {fetch-progress: '2s', first-byte: '2s'}" });

/** A blob whose manifest, which the origin has seen, tells `told` of it. */
async function told({ upstream, c }: PullThrough, blob: Buffer, size: number): Promise<Digest> {
  const digest = upstream.addBlob(blob) as Digest;
  const layers = [{ mediaType: 'a/b', digest, size }];
  const manifest = { schemaVersion: 2, mediaType: OCI_MANIFEST, layers };
  upstream.addManifest('lib/x', digest.slice(7, 20), manifest, OCI_MANIFEST);
  const path = `/v1/manifests?${HUB}&reference=${digest.slice(7, 20)}`;
  await c.get('o1', path);
  return digest;
}

const SIZES: readonly (readonly [name: string, bytes: number, told: number])[] = [
  ['one too many', 900_000, 900_001],
  ['one too few', 900_000, 899_999],
  ['one too few, small', 5_000, 4_999],
  ['ten times too many', 900_000, 9_000_000],
  ['2 MiB too few', 3_500_000, 3_500_000 - 2 * MIB],
  ['a piece too many', 3 * MIB, 4 * MIB],
  ['more than any blob may have', 900_000, 1e15],
  ['0', 900_000, 0],
  ['0, small', 5_000, 0],
  ['some, of the empty blob', 0, 7],
];

for (const [name, bytes, size] of SIZES) {
  t.test(
    `a manifest tells ${name}: HEAD, GET, a range and metainfo go by what the upstream states`,
    async (t) => {
      const all = await setUp(t);
      const { c } = all;
      const blob = randomBytes(bytes);
      const digest = await told(all, blob, size);
      const path = `/v1/blobs/${digest}?${HUB}`;
      const head = await c.call('o1', { method: 'HEAD', path });
      t.equal(head.status, 200);
      t.equal(head.headers['sepia-blob-size'] ?? head.headers['content-length'], String(bytes));
      const got = await c.get('o1', path);
      t.equal(got.status, 200, got.bytes.toString('latin1').slice(0, 300));
      t.ok(got.bytes.equals(blob));
      const cold = randomBytes(bytes);
      const other = await told(all, cold, size);
      if (bytes > 1_000) {
        const headers = { range: 'bytes=100-199' };
        const part = await c.get('o1', `/v1/blobs/${other}?${HUB}`, headers);
        t.equal(part.status, 206);
        t.ok(part.bytes.equals(cold.subarray(100, 200)));
        t.equal(part.headers['content-range'], `bytes 100-199/${bytes}`);
      }
    },
  );
}

t.test('a told size of a blob whose upstream states none: small ones come whole at once', async (t) => {
  const all = await setUp(t);
  all.upstream.noLength = true;
  for (const size of [899_999, 900_001, 0]) {
    const blob = randomBytes(900_000);
    const digest = await told(all, blob, size);
    const path = `/v1/blobs/${digest}?${HUB}`;
    const head = await all.c.call('o1', { method: 'HEAD', path });
    t.equal(
      head.headers['sepia-blob-size'] ?? head.headers['content-length'],
      String(blob.length),
      `${size}`,
    );
    const got = await all.c.get('o1', path);
    t.ok(got.bytes.equals(blob), `${size}: ${got.status}`);
  }
});

t.test(
  'a big one is cut where the size does not fit, and comes whole when it is asked for again',
  async (t) => {
    const all = await setUp(t);
    all.upstream.noLength = true;
    for (const off of [-1, 1, 2 * MIB]) {
      const blob = randomBytes(3 * MIB + 10);
      const digest = await told(all, blob, blob.length + off);
      const call = { method: 'GET', path: `/v1/blobs/${digest}?${HUB}` } as const;
      const first = await all.c.call('o1', call).catch((error: unknown) => error as Error);
      t.ok(first instanceof Error || first.status === 503 || first.bytes.equals(blob), 'no wrong body');
      const got = await all.c.call('o1', call);
      t.equal(got.status, 200, `${off}: ${got.bytes.toString('latin1').slice(0, 200)}`);
      t.ok(got.bytes.equals(blob), `${off}`);
    }
  },
);

t.test('HEAD says what GET can keep: a blob that the upstream lost is unknown', async (t) => {
  const all = await setUp(t);
  const digest = await told(all, randomBytes(4_000), 4_000);
  all.upstream.blobs.delete(digest);
  for (const method of ['HEAD', 'GET'] as const) {
    const got = await all.c.call('o1', { method, path: `/v1/blobs/${digest}?${HUB}` });
    t.equal(got.status, 404, method);
  }
});

t.test('a HEAD that outlives the bytes is not believed', async (t) => {
  const all = await setUp(t);
  const digest = await told(all, randomBytes(4_000), 4_000);
  all.upstream.blobs.delete(digest);
  all.upstream.fault = (req, res) => {
    if (req.method !== 'HEAD') return false;
    res.writeHead(200, { 'content-length': 4_000 }).end();
    return true;
  };
  for (const method of ['HEAD', 'GET', 'HEAD'] as const) {
    const got = await all.c.call('o1', { method, path: `/v1/blobs/${digest}?${HUB}` });
    t.equal(got.status, 404, method);
  }
});

t.test('a HEAD that says 0 is not believed', async (t) => {
  const all = await setUp(t);
  all.upstream.fault = (req, res) => {
    if (req.method !== 'HEAD') return false;
    res.writeHead(200, { 'content-length': 0 }).end();
    return true;
  };
  const blob = randomBytes(400_000);
  const path = `/v1/blobs/${all.upstream.addBlob(blob)}?${HUB}`;
  const head = await all.c.call('o1', { method: 'HEAD', path });
  t.equal(head.headers['sepia-blob-size'] ?? head.headers['content-length'], String(blob.length));
  t.ok((await all.c.get('o1', path)).bytes.equals(blob));
});

t.test(
  'an upstream that states more than any blob may have is asked once, and named in the answer',
  async (t) => {
    const { upstream, c } = await setUp(t);
    const digest = upstream.addBlob(randomBytes(5_000)) as Digest;
    upstream.fault = (req, res, bytes) => {
      res.writeHead(200, { 'content-length': '99999999999999' });
      if (req.method === 'HEAD') res.end();
      else res.write(bytes);
      return true;
    };
    const got = await c.get('o1', `/v1/blobs/${digest}?${HUB}`);
    t.equal(got.status, 503);
    t.match(got.bytes.toString('latin1'), /upstream hub states 99999999999999 bytes .* 1 TiB/);
    t.equal(upstream.requests.filter((line) => line.startsWith('GET /v2/lib/x/blobs/')).length, 1);
  },
);
