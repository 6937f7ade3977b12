import { randomBytes } from 'node:crypto';
import { digestOf } from '@sepia/base/digest';
import { Metainfo } from '@sepia/metainfo/metainfo';
import { OCI_MANIFEST } from '@sepia/oci/manifest';
import { until, untilAnswered } from '@sepia/test-support/until';
import t, { type Test } from 'tap';
import { type PullThrough, startPullThrough } from '../support/pull-through.ts';
import type { TestUpstream } from '../support/upstream.ts';

const HUB = 'upstream=hub&repository=lib/x';
const MIB = 1024 * 1024;

const setUp = async (
  t: Test,
  { origins = 1, config = "deadlines: {fetch-progress: '2s', first-byte: '2s'}" } = {},
): Promise<PullThrough> => await startPullThrough(t, origins, {}, { config });

function blobGets(upstream: TestUpstream): string[] {
  return upstream.requests.filter((one) => one.startsWith('GET /v2/lib/x/blobs'));
}

t.test('a body that is cut again and again is resumed by Range', async (t) => {
  const { upstream, c } = await setUp(t);
  const blob = randomBytes(5 * MIB + 100);
  const digest = upstream.addBlob(blob);
  upstream.fault = (req, res, bytes) => {
    const start = Number(/^bytes=(\d+)/.exec(req.headers.range ?? '')?.[1] ?? 0);
    if (req.method === 'HEAD') return false;
    const headers =
      start === 0 ? {} : { 'content-range': `bytes ${start}-${bytes.length - 1}/${bytes.length}` };
    res.writeHead(start === 0 ? 200 : 206, { 'content-length': bytes.length - start, ...headers });
    res.write(bytes.subarray(start, start + 1_500_000), () => setTimeout(() => res.destroy(), 5));
    return true;
  };
  const got = await c.get('o1', `/v1/blobs/${digest}?${HUB}`);
  t.ok(got.bytes.equals(blob), `${got.status} ${got.bytes.length}`);
  t.ok(
    blobGets(upstream).some((one) => /bytes=[1-9]/.test(one)),
    blobGets(upstream).join('\n'),
  );
});

t.test('an upstream that ignores Range is read again and compared', async (t) => {
  const { upstream, c } = await setUp(t);
  const blob = randomBytes(4 * MIB + 100);
  const digest = upstream.addBlob(blob);
  let cuts = 0;
  upstream.ignoreRange = true;
  upstream.fault = (req, res, bytes) => {
    if (req.method === 'HEAD' || cuts >= 2) return false;
    cuts += 1;
    res.writeHead(200, { 'content-length': bytes.length });
    res.write(bytes.subarray(0, 1_500_000 * cuts), () => setTimeout(() => res.destroy(), 5));
    return true;
  };
  const got = await c.get('o1', `/v1/blobs/${digest}?${HUB}`);
  t.ok(got.bytes.equals(blob), `${got.status} ${got.bytes.length}`);
});

t.test(
  'a chunked upstream without length: headers wait for the whole blob, or the size of the manifest is used',
  async (t) => {
    const { upstream, c } = await setUp(t);
    upstream.noLength = true;
    const blob = randomBytes(3 * MIB + 5);
    const digest = upstream.addBlob(blob);
    const got = await c.get('o1', `/v1/blobs/${digest}?${HUB}`);
    t.ok(got.bytes.equals(blob), `${got.status} ${got.bytes.length}`);
    const hinted = randomBytes(3 * MIB + 6);
    const second = upstream.addBlob(hinted);
    upstream.addManifest(
      'lib/x',
      'v1',
      {
        schemaVersion: 2,
        mediaType: OCI_MANIFEST,
        layers: [{ mediaType: 'a/b', digest: second, size: hinted.length }],
      },
      OCI_MANIFEST,
    );
    await c.get('o1', `/v1/manifests?${HUB}&reference=v1`);
    upstream.rate = MIB;
    const meta = await c.get('o1', `/v1/blobs/${second}/metainfo?${HUB}&fetch=1`);
    t.equal(Metainfo.decode(meta.bytes).state, 'open', 'with a hint there is an open metainfo');
    upstream.rate = 0;
    const whole = await c.get('o1', `/v1/blobs/${second}?${HUB}`);
    t.ok(whole.bytes.equals(hinted));
  },
);

t.test('metainfo is followed by long-polls from open to final', async (t) => {
  const { upstream, c } = await setUp(t);
  upstream.rate = 6 * MIB;
  const blob = randomBytes(4 * MIB);
  const digest = upstream.addBlob(blob);
  const first = await c.get('o1', `/v1/blobs/${digest}/metainfo?${HUB}&fetch=1`);
  const known = Metainfo.decode(first.bytes);
  t.equal(known.state, 'open');
  let polls = 0;
  while (known.state === 'open' && polls < 50) {
    polls += 1;
    const next = await c.get(
      'o1',
      `/v1/blobs/${digest}/metainfo?${HUB}&wait=5000&from=${known.knownPrefix}`,
      { 'if-none-match': known.etag },
    );
    if (next.status === 304) continue;
    t.equal(next.status, 200, next.bytes.toString());
    t.equal(known.merge(Metainfo.decode(next.bytes)), 'merged');
  }
  t.equal(known.state, 'final');
  t.ok(polls <= 6, `${polls} polls`);
});

t.test('a wrong digest is tried once more, then remembered as a lie', async (t) => {
  const { upstream, c } = await setUp(t);
  const blob = randomBytes(2 * MIB);
  const digest = upstream.addBlob(blob);
  upstream.blobs.set(digest, randomBytes(2 * MIB));
  const got = await c
    .get('o1', `/v1/blobs/${digest}?${HUB}`, { range: 'bytes=0-' })
    .catch((error: unknown) => error as Error);
  t.ok(got instanceof Error || got.status === 502, 'no completed body');
  await until(() => blobGets(upstream).length >= 2, 'a second attempt');
  // While the second attempt runs, a body may still begin, and is cut.
  await until(async () => {
    const again = await c.get('o1', `/v1/blobs/${digest}?${HUB}`).catch((error: unknown) => error as Error);
    if (again instanceof Error) return false;
    t.equal(again.status, 502);
    t.equal(again.headers['sepia-error'], 'UPSTREAM_LIES');
    return true;
  }, 'the attempt is over');
  t.equal(blobGets(upstream).length, 2, blobGets(upstream).join('\n'));
});

t.test('a lie that was told once does no harm', async (t) => {
  const { upstream, c } = await setUp(t);
  const blob = randomBytes(2 * MIB + 9);
  const digest = upstream.addBlob(blob);
  let lies = 1;
  upstream.fault = (req, res, bytes) => {
    if (req.method === 'HEAD' || lies-- <= 0) return false;
    const wrong = Buffer.from(bytes);
    wrong[MIB + 5]! ^= 1;
    res.writeHead(200, { 'content-length': bytes.length });
    res.end(wrong);
    return true;
  };
  const meta = await c.get('o1', `/v1/blobs/${digest}/metainfo?${HUB}&fetch=1`);
  const known = Metainfo.decode(meta.bytes);
  await until(async () => {
    const now = await c.get('o1', `/v1/blobs/${digest}/metainfo?${HUB}`);
    return now.status === 200 && Metainfo.decode(now.bytes).state === 'final';
  }, 'final metainfo');
  t.equal(known.sizeBytes, blob.length);
  const got = await c.get('o1', `/v1/blobs/${digest}?${HUB}`);
  t.ok(got.bytes.equals(blob), `${got.status}`);
});

t.test('a stalled upstream ends in 503 and what landed is kept', async (t) => {
  const { upstream, c } = await setUp(t, { config: "deadlines: {fetch-progress: '1s', first-byte: '1s'}" });
  const blob = randomBytes(4 * MIB);
  const digest = upstream.addBlob(blob);
  upstream.fault = (req, res, bytes) => {
    if (req.method === 'HEAD') return false;
    res.writeHead(200, { 'content-length': bytes.length });
    res.write(bytes.subarray(0, 2 * MIB + 10));
    return true;
  };
  const startedMs = Date.now();
  const got = await c.get('o1', `/v1/blobs/${digest}?${HUB}`, { range: `bytes=${3 * MIB}-${3 * MIB + 9}` });
  t.equal(got.status, 503, got.bytes.toString());
  t.ok(Date.now() - startedMs < 20_000, `${Date.now() - startedMs} ms`);
  upstream.fault = undefined;
  const whole = await untilAnswered(
    async () => await c.get('o1', `/v1/blobs/${digest}?${HUB}`),
    'the whole blob',
  );
  t.ok(whole.bytes.equals(blob), `${whole.status}`);
});

t.test('429 waits for Retry-After within the deadline, else 503 with Retry-After', async (t) => {
  const { upstream, c } = await setUp(t);
  const blob = randomBytes(MIB);
  const digest = upstream.addBlob(blob);
  let limits = 1;
  let seconds = 1;
  upstream.fault = (req, res) => {
    if (req.method === 'HEAD' || limits-- <= 0) return false;
    res.writeHead(429, { 'retry-after': String(seconds) }).end();
    return true;
  };
  const got = await c.get('o1', `/v1/blobs/${digest}?${HUB}`);
  t.ok(got.bytes.equals(blob), `${got.status}`);
  const second = upstream.addBlob(randomBytes(MIB));
  limits = 5;
  seconds = 60;
  const refused = await c.get('o1', `/v1/blobs/${second}?${HUB}`);
  t.equal(refused.status, 503);
  t.equal(refused.headers['retry-after'], '60');
});

t.test('bounded ranges of a cold blob fetch what they cover and no more', async (t) => {
  const { upstream, c } = await setUp(t);
  const blob = randomBytes(32 * MIB);
  const digest = upstream.addBlob(blob);
  for (const [start, end] of [
    [30 * MIB + 5, 30 * MIB + 65_000],
    [0, 51],
    [12 * MIB - 5, 12 * MIB + 5],
  ] as const) {
    const got = await c.get('o1', `/v1/blobs/${digest}?${HUB}`, { range: `bytes=${start}-${end}` });
    t.equal(got.status, 206, got.bytes.toString());
    t.ok(got.bytes.equals(blob.subarray(start, end + 1)));
  }
  const suffix = await c.get('o1', `/v1/blobs/${digest}?${HUB}`, { range: 'bytes=-51' });
  t.ok(suffix.bytes.equals(blob.subarray(blob.length - 51)), `${suffix.status}`);
  t.ok(upstream.bodyBytes <= 6 * MIB, `${upstream.bodyBytes} bytes for 5 pieces`);
  const whole = await c.get('o1', `/v1/blobs/${digest}?${HUB}`);
  t.ok(whole.bytes.equals(blob));
});

t.test('a reader far ahead of a slow fetch gets its pieces at once', async (t) => {
  const { upstream, c } = await setUp(t);
  upstream.rate = MIB;
  const blob = randomBytes(32 * MIB);
  const digest = upstream.addBlob(blob);
  await c.get('o1', `/v1/blobs/${digest}/metainfo?${HUB}&fetch=1`);
  const got = await c.get('o1', `/v1/blobs/${digest}?${HUB}`, {
    range: `bytes=${28 * MIB}-${28 * MIB + 99}`,
  });
  t.ok(got.bytes.equals(blob.subarray(28 * MIB, 28 * MIB + 100)), `${got.status}`);
  t.ok(upstream.bodyBytes < 24 * MIB, `${upstream.bodyBytes} bytes had come by then`);
  upstream.rate = 0;
});

t.test('a leader that dies is followed by another that goes on with its attempt', async (t) => {
  const { upstream, c } = await setUp(t, { origins: 3 });
  upstream.rate = 4 * MIB;
  const blob = randomBytes(8 * MIB + 1);
  const digest = upstream.addBlob(blob);
  const [leader = '', next = ''] = c.cluster.origins(digest).order;
  const path = `/v1/blobs/${digest}/metainfo?${HUB}`;
  await c.get(leader, `${path}&fetch=1`);
  let known = Metainfo.decode((await c.get(leader, path)).bytes);
  await until(async () => {
    known = Metainfo.decode((await c.get(leader, path)).bytes);
    return known.knownCount >= 3;
  }, 'three hashes');
  await c.stop(leader);
  upstream.rate = 0;
  const body = JSON.stringify({ metainfo: Buffer.from(known.encode()).toString('base64'), peers: [] });
  const adopted = await c.call(next, {
    method: 'POST',
    path: `/v1/blobs/${digest}/adopt?${HUB}`,
    body,
    headers: { 'content-type': 'application/json' },
  });
  t.equal(adopted.status, 200, adopted.bytes.toString());
  t.equal(Metainfo.decode(adopted.bytes).attempt, known.attempt);
  const got = await c.get(next, `/v1/blobs/${digest}?${HUB}`);
  t.ok(got.bytes.equals(blob), `${got.status} ${got.bytes.length}`);
});

t.test('a blob that the upstream does not have is 404 at its first word', async (t) => {
  const { c, upstream } = await setUp(t, { origins: 3 });
  const got = await c.get('o2', `/v1/blobs/${digestOf(randomBytes(4))}?${HUB}`);
  t.equal(got.status, 404);
  t.equal(upstream.requests.length, 2, `a HEAD and a GET, neither again: ${upstream.requests}`);
});
