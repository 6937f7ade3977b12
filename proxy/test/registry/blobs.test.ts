import { digestOf } from '@sepia/base/digest';
import { hashOf, signCall } from '@sepia/http/sign';
import { until } from '@sepia/test-support/until';
import t, { type Test } from 'tap';
import { request } from 'undici';
import { ask, type Content, pushBlob, randomContent } from '../support/client.ts';
import { type FakeCluster, startCluster } from '../support/fake-cluster.ts';
import type { FakeOrigin } from '../support/fake-origin.ts';

const MIB = 1024 * 1024;

interface Pushed {
  readonly cluster: FakeCluster;
  readonly url: string;
  readonly content: Content;
  readonly path: string;
  /** The origin that the proxy asks first. */
  readonly first: FakeOrigin;
}

async function pushed(t: Test, sizeBytes: number, origins = 3): Promise<Pushed> {
  const cluster = await startCluster(t, { origins });
  const { url } = cluster.proxies[0]!;
  const content = randomContent(sizeBytes);
  t.equal((await pushBlob(url, 'app', content)).status, 201);
  const first = cluster.origin(cluster.cluster.origins(content.digest).owners[0]!);
  return { cluster, url, content, path: `${url}/v2/app/blobs/${content.digest}`, first };
}

/** Origins that were asked for bytes of it. */
function servingOf(cluster: FakeCluster, { digest }: Content): FakeOrigin[] {
  return cluster.origins.filter((origin) => origin.calls.includes(`GET /v1/blobs/${digest}`));
}

t.test('GET and HEAD answer as distribution does', async (t) => {
  const { path, content } = await pushed(t, 3 * MIB + 5);
  for (const method of ['GET', 'HEAD']) {
    const answer = await ask(path, method);
    t.equal(answer.status, 200, method);
    t.equal(answer.headers['content-length'], String(content.bytes.length), method);
    t.equal(answer.headers['content-type'], 'application/octet-stream', method);
    t.equal(answer.headers['docker-content-digest'], content.digest, method);
    t.equal(answer.headers.etag, `"${content.digest}"`, method);
    t.equal(answer.headers['accept-ranges'], 'bytes', method);
    t.equal(answer.bytes.length, method === 'GET' ? content.bytes.length : 0, method);
  }
  const known = await ask(path, 'GET', { headers: { 'if-none-match': `"${content.digest}"` } });
  t.equal(known.status, 304);
  t.equal(known.bytes.length, 0);
  t.equal((await ask(path, 'HEAD', { headers: { 'if-none-match': `"${content.digest}"` } })).status, 304);
});

t.test('many who ask for one blob at once are one question to the origins', async (t) => {
  const { cluster, path, content } = await pushed(t, 2 * MIB + 7);
  const answers = await Promise.all(Array.from({ length: 40 }, () => ask(path)));
  for (const answer of answers) t.ok(answer.bytes.equals(content.bytes));
  const owners = cluster.cluster.origins(content.digest).owners;
  const calls = owners.reduce((sum, id) => sum + cluster.origin(id).metainfoCalls, 0);
  t.ok(calls < 20, `${calls} calls for metainfo`);
});

t.test('every form of range is passed on', async (t) => {
  const { path, content } = await pushed(t, 3 * MIB + 5);
  const size = content.bytes.length;
  const cases: [string, number, number][] = [
    ['bytes=0-0', 0, 0],
    ['bytes=100-', 100, size - 1],
    ['bytes=1048570-1048590', 1048570, 1048590],
    ['bytes=-500', size - 500, size - 1],
    [`bytes=${size - 1}-${size + 100}`, size - 1, size - 1],
  ];
  for (const [range, start, end] of cases) {
    const answer = await ask(path, 'GET', { headers: { range } });
    t.equal(answer.status, 206, range);
    t.equal(answer.headers['content-range'], `bytes ${start}-${end}/${size}`, range);
    t.ok(answer.bytes.equals(content.bytes.subarray(start, end + 1)), range);
  }
  const several = await ask(path, 'GET', { headers: { range: 'bytes=0-9,20-29' } });
  t.equal(several.status, 206);
  t.match(several.headers['content-type'], /^multipart\/byteranges; boundary=/);
  t.ok(several.bytes.includes(content.bytes.subarray(20, 30)));
  const beyond = await ask(path, 'GET', { headers: { range: `bytes=${size}-` } });
  t.equal(beyond.status, 416);
  t.equal(beyond.headers['content-range'], `bytes */${size}`);
  t.equal(
    (await ask(path, 'GET', { headers: { range: 'lines=1-2' } })).status,
    200,
    'an unknown unit is ignored',
  );
  const other = { range: 'bytes=0-9', 'if-range': '"other"' };
  t.equal((await ask(path, 'GET', { headers: other })).status, 200, 'If-Range of something else');
});

for (const type of ['cut', 'stall'] as const) {
  t.test(`an origin's ${type} in mid-body is not seen by the client`, async (t) => {
    const { cluster, path, content } = await pushed(t, 12 * MIB + 123);
    const owners = cluster.cluster.origins(content.digest).owners.map((id) => cluster.origin(id));
    // Whichever is asked fails after 3 pieces, the second after 4 more; the third is sound.
    owners[0]!.fault = { type, afterPieces: 3 };
    owners[1]!.fault = { type, afterPieces: 4 };
    for (const range of [undefined, 'bytes=1000000-', 'bytes=5-11000000']) {
      const answer = await ask(path, 'GET', range === undefined ? {} : { headers: { range } });
      const [from, to] = range === undefined ? [0, undefined] : range.slice(6).split('-').map(Number);
      const wanted = content.bytes.subarray(from, to ? to + 1 : undefined);
      t.ok(answer.bytes.equals(wanted), `${range}: intact`);
    }
    const metrics = await ask(`${cluster.proxies[0]!.adminUrl}/metrics`);
    t.match(metrics.text, /sepia_proxy_blob_resumes_total\{[^}]*\} [1-9]/);
  });
}

t.test('an origin that is stopped is passed over, also right after it stopped', async (t) => {
  const { cluster, path, content, first } = await pushed(t, 2 * MIB);
  // It never goes on: whoever waits for it never answers.
  first.freeze();
  const before = first.calls.length;
  t.equal(digestOf((await ask(path)).bytes), content.digest);
  t.equal((await ask(path, 'HEAD')).status, 200);
  t.equal(first.calls.length, before, 'it took no part');
  t.ok(servingOf(cluster, content).length > 0, 'another one served it');
});

t.test('an origin that stops in mid-body is gone on from', async (t) => {
  const { cluster, path, content } = await pushed(t, 24 * MIB);
  const answer = await request(path);
  const chunks: Buffer[] = [];
  const stopped = new Set<FakeOrigin>();
  for await (const chunk of answer.body) {
    chunks.push(chunk as Buffer);
    if (chunks.length !== 1) continue;
    for (const origin of servingOf(cluster, content)) {
      stopped.add(origin);
      origin.freeze();
    }
  }
  t.equal(digestOf(Buffer.concat(chunks)), content.digest);
  t.not(stopped.size, 0);
  const others = servingOf(cluster, content).filter((origin) => !stopped.has(origin));
  t.not(others.length, 0, 'another one served the rest');
});

t.test('a blob that no origin can serve is 404 when certain, else 503', async (t) => {
  const { cluster, url } = await pushed(t, 10);
  const nowhere = `${url}/v2/app/blobs/${randomContent(5).digest}`;
  t.equal((await ask(nowhere)).code, 'BLOB_UNKNOWN');
  t.equal((await ask(nowhere, 'HEAD')).status, 404);
  for (const origin of cluster.origins) origin.freeze();
  const answer = await ask(nowhere);
  t.equal(answer.status, 503);
  t.equal(answer.code, 'UNAVAILABLE');
});

t.test('when nothing is left in mid-body the answer is cut, never completed wrong', async (t) => {
  const cluster = await startCluster(t, { config: { limits: { 'body-stall': '1500ms', drain: '200ms' } } });
  const { url } = cluster.proxies[0]!;
  const content = randomContent(12 * MIB);
  await pushBlob(url, 'app', content);
  for (const origin of cluster.origins) origin.fault = { type: 'cut', afterPieces: 2 };
  await t.rejects(ask(`${url}/v2/app/blobs/${content.digest}`), 'the client sees a cut');
  const answer = await ask(`${url}/v2/app/blobs/${content.digest}`);
  t.equal(answer.status, 503, 'and before the first byte an error, no cut');
});

t.test('a cold blob is fetched once although its leader thinks long', async (t) => {
  const cluster = await startCluster(t);
  const content = randomContent(100_000);
  cluster.records.upstream.set(content.digest, content.bytes);
  cluster.records.upstreamDelayMs = 2_000;
  const url = `${cluster.proxies[0]!.url}/v2/docker.io/a/b/blobs/${content.digest}`;
  t.equal(digestOf((await ask(url)).bytes), content.digest);
  t.equal(cluster.records.upstreamFetches, 1);
});

t.test('a leader that stops is replaced', async (t) => {
  const cluster = await startCluster(t);
  const content = randomContent(100_000);
  cluster.records.upstream.set(content.digest, content.bytes);
  cluster.records.upstreamDelayMs = 500;
  const leader = cluster.origin(cluster.cluster.origins(content.digest).owners[0]!);
  const answer = ask(`${cluster.proxies[0]!.url}/v2/docker.io/a/b/blobs/${content.digest}`);
  await until(() => cluster.records.upstreamFetches === 1, 'the leader fetches');
  leader.freeze();
  t.equal(digestOf((await answer).bytes), content.digest);
  t.equal(cluster.records.upstreamFetches, 2);
});

t.test('a client that goes away ends the origin call, and nothing else', async (t) => {
  const { cluster, path, content } = await pushed(t, 40 * MIB);
  const answer = await request(path);
  answer.body.on('error', () => undefined);
  await new Promise((resolve) => answer.body.once('data', resolve));
  answer.body.destroy();
  t.equal(digestOf((await ask(path)).bytes), content.digest);
  t.equal((await ask(`${cluster.proxies[0]!.adminUrl}/readyz`)).status, 200);
});

t.test('members are known by signature and name their upstream', async (t) => {
  const { cluster, url, content } = await pushed(t, 1000);
  const path = `/v2/app/blobs/${content.digest}`;
  const sign = (key: Uint8Array): Record<string, string> => ({
    authorization: signCall(
      { clusterKey: key, id: 'agent-1' },
      'proxy-1',
      { method: 'GET', path, headers: { 'sepia-upstream': 'local' }, body: hashOf('') },
      Date.now(),
    ),
    'sepia-upstream': 'local',
  });
  const second = cluster.proxies[0]!.urls[1]!;
  t.equal((await ask(second + path)).status, 404, 'that listener means another upstream');
  t.equal((await ask(second + path, 'GET', { headers: sign(cluster.key) })).status, 200);
  t.equal((await ask(url + path, 'GET', { headers: sign(Buffer.alloc(32)) })).status, 403);
});

t.test('a deleted blob is gone, and may be pushed again', async (t) => {
  const { url, path, content } = await pushed(t, 10);
  t.equal((await ask(path, 'DELETE')).status, 202);
  t.equal((await ask(path, 'HEAD')).status, 404);
  t.equal((await ask(path)).code, 'BLOB_UNKNOWN');
  t.equal((await ask(path, 'DELETE')).status, 404);
  t.equal((await ask(`${url}/v2/app/blobs/sha256:nonsense`, 'DELETE')).status, 400);
  t.equal((await pushBlob(url, 'app', content)).status, 201);
  t.ok((await ask(path)).bytes.equals(content.bytes));
});

t.test('a delete whose answer was lost is a delete all the same', async (t) => {
  const { cluster, path } = await pushed(t, 10);
  for (const origin of cluster.origins) origin.loseAnswers = true;
  t.equal((await ask(path, 'DELETE')).status, 202, 'the next origin says that it is not there');
});
