import { digestOf } from '@sepia/base/digest';
import { shardKey } from '@sepia/cluster/cluster';
import { OCI_INDEX, OCI_MANIFEST } from '@sepia/oci/manifest';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { hang, startCluster, type TestCluster } from '../support/cluster.ts';
import { startPullThrough } from '../support/pull-through.ts';

const HUB = 'upstream=hub&repository=lib/x';

function manifest(text: string): object {
  return { schemaVersion: 2, mediaType: OCI_MANIFEST, layers: [], annotations: { text } };
}

async function get(
  c: TestCluster,
  id: string,
  reference = 'v1',
  repository = HUB,
): ReturnType<TestCluster['call']> {
  return await c.get(id, `/v1/manifests?${repository}&reference=${reference}`);
}

t.test('revalidate: within the ttl one question upstream, after it the new digest everywhere', async (t) => {
  const ttlMs = 3_000;
  const { upstream, c } = await startPullThrough(t, 3, { tags: { ttl: `${ttlMs}ms` } });
  upstream.addManifest('lib/x', 'v1', manifest('one'), OCI_MANIFEST);
  const startedMs = performance.now();
  /** One question, and one more each time that the ttl has gone by. */
  const mostQuestions = (): number => 1 + Math.floor((performance.now() - startedMs) / ttlMs);
  for (const id of c.ids) t.match((await get(c, id)).bytes.toString(), /one/);
  t.ok(upstream.requests.length <= mostQuestions(), upstream.requests.join('\n'));
  upstream.addManifest('lib/x', 'v1', manifest('two'), OCI_MANIFEST);
  await until(async () => /two/.test((await get(c, 'o1')).bytes.toString()), 'the ttl ends');
  const all = await Promise.all(c.ids.map(async (id) => await get(c, id)));
  for (const one of all) t.match(one.bytes.toString(), /two/);
  t.ok(upstream.requests.length <= Math.max(3, mostQuestions()), upstream.requests.join('\n'));
});

t.test('upstream down: stale within the limit and marked, 503 beyond it; by digest always', async (t) => {
  const limitMs = 1_500;
  const tags = { ttl: '1ms', 'stale-limit': `${limitMs}ms` };
  const { upstream, c } = await startPullThrough(t, 3, { tags });
  const digest = upstream.addManifest('lib/x', 'v1', manifest('one'), OCI_MANIFEST);
  const stale = await until(async () => {
    upstream.down = false;
    const sinceMs = performance.now();
    const fresh = await get(c, 'o1');
    upstream.down = true;
    if (fresh.status !== 200 || fresh.headers['sepia-stale'] !== undefined) return undefined;
    const answer = await get(c, 'o2');
    // Only a machine that was held up is asked again: whatever comes within the limit counts.
    return performance.now() - sinceMs < limitMs ? answer : undefined;
  }, 'an answer within the limit');
  t.equal(stale.status, 200, stale.bytes.toString());
  t.match(stale.headers['sepia-stale'], /^\d+$/);
  await until(async () => (await get(c, 'o2')).status === 503, 'the stale limit ends');
  t.equal((await get(c, 'o3', digest)).status, 200);
});

t.test(
  'an upstream that limits requests: a known tag is served stale and marked, another is 503',
  async (t) => {
    const { upstream, c } = await startPullThrough(t, 3, { tags: { ttl: '1ms' } });
    upstream.addManifest('lib/x', 'v1', manifest('one'), OCI_MANIFEST);
    t.equal((await get(c, 'o1')).status, 200);
    upstream.refuse = { status: 429, code: 'TOOMANYREQUESTS', message: 'slow down' };
    for (const id of c.ids) {
      const stale = await get(c, id);
      t.equal(stale.status, 200, stale.bytes.toString());
      t.match(stale.headers['sepia-stale'], /^\d+$/);
    }
    const unknown = await get(c, 'o1', 'v2');
    t.equal(unknown.status, 503);
    t.match(unknown.headers['retry-after'], /^\d+$/);
  },
);

t.test('a tag that is gone upstream is gone here', async (t) => {
  const { upstream, c } = await startPullThrough(t, 3, { tags: { ttl: '1ms' } });
  upstream.addManifest('lib/x', 'v1', manifest('one'), OCI_MANIFEST);
  t.equal((await get(c, 'o1')).status, 200);
  upstream.manifests.delete('lib/x:v1');
  t.equal((await get(c, 'o2')).status, 404);
  upstream.down = true;
  t.equal((await get(c, 'o3')).status, 503, 'the record was dropped: nothing stale is left');
});

t.test('pinned: asked once, for ever', async (t) => {
  const { upstream, c } = await startPullThrough(t, 1, { tags: { policy: 'pinned', ttl: '1ms' } });
  upstream.addManifest('lib/x', 'v1', manifest('one'), OCI_MANIFEST);
  await get(c, 'o1');
  upstream.addManifest('lib/x', 'v1', manifest('two'), OCI_MANIFEST);
  t.match((await get(c, 'o1')).bytes.toString(), /one/);
  t.equal(upstream.requests.length, 1);
});

t.test('a leader that hangs is passed over in time', async (t) => {
  const { upstream, c } = await startPullThrough(t, 3, { tags: { ttl: '1ms' } });
  upstream.addManifest('lib/x', 'v1', manifest('one'), OCI_MANIFEST);
  const [leader = '', next = ''] = c.cluster.origins(shardKey('hub', 'lib/x')).order;
  t.equal((await get(c, next)).status, 200);
  await hang(t, c, leader);
  const startedMs = Date.now();
  const got = await get(c, next);
  t.equal(got.status, 200, got.bytes.toString());
  t.ok(Date.now() - startedMs < 12_000, `${Date.now() - startedMs} ms`);
});

t.test('pull-through goes on without quorum', async (t) => {
  const { upstream, c } = await startPullThrough(t, 3, { tags: { ttl: '1ms' } });
  upstream.addManifest('lib/x', 'v1', manifest('one'), OCI_MANIFEST);
  await c.stop('o1');
  await c.stop('o2');
  const got = await get(c, 'o3');
  t.equal(got.status, 200, got.bytes.toString());
});

t.test('mode none: mutable tags move, immutable ones do not, same digest again is fine', async (t) => {
  const c = await startCluster(t, {
    origins: 3,
    upstreams: [{ name: 'fixed', mode: 'none', tags: { policy: 'immutable' } }],
  });
  const put = async (upstream: string, text: string, reference = 'v1'): ReturnType<TestCluster['call']> =>
    await c.put(
      'o1',
      `/v1/manifests?upstream=${upstream}&repository=a/b&reference=${reference}`,
      Buffer.from(JSON.stringify(manifest(text))),
      { 'content-type': OCI_MANIFEST },
    );
  t.equal((await put('local', 'one')).status, 201);
  t.equal((await put('local', 'two')).status, 201);
  t.match((await get(c, 'o3', 'v1', 'upstream=local&repository=a/b')).bytes.toString(), /two/);
  t.equal((await put('fixed', 'one')).status, 201);
  t.equal((await put('fixed', 'one')).status, 201);
  const refused = await put('fixed', 'two');
  t.equal(refused.status, 403);
  t.equal(refused.headers['sepia-error'], 'TAG_IMMUTABLE');
  for (const reference of ['v1', digestOf(Buffer.from(JSON.stringify(manifest('one'))))]) {
    const path = `/v1/manifests?upstream=fixed&repository=a/b&reference=${reference}`;
    const kept = await c.call('o2', { method: 'DELETE', path });
    t.equal(kept.status, 403, `delete of ${reference}, to push it anew`);
    t.equal(kept.headers['sepia-error'], 'TAG_IMMUTABLE');
  }
  t.match((await get(c, 'o3', 'v1', 'upstream=fixed&repository=a/b')).bytes.toString(), /one/);
  t.equal(
    (await get(c, 'o2', 'nope', 'upstream=local&repository=a/b')).headers['sepia-error'],
    'TAG_UNKNOWN',
  );
  const wrong = await put('local', 'three', digestOf(Buffer.from('x')));
  t.equal(wrong.headers['sepia-error'], 'DIGEST_MISMATCH');
  const bytes = Buffer.from(JSON.stringify(manifest('four')));
  const sha512 = digestOf(bytes, 'sha512');
  t.equal((await put('local', 'four', sha512)).status, 201);
  t.equal((await get(c, 'o2', sha512, 'upstream=local&repository=a/b')).status, 200);
  const index = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: OCI_INDEX,
      manifests: [{ mediaType: OCI_MANIFEST, digest: digestOf(Buffer.from('y')), size: 1 }],
    }),
  );
  const missing = await c.put('o2', '/v1/manifests?upstream=local&repository=a/b&reference=i', index, {
    'content-type': OCI_INDEX,
  });
  t.equal(missing.headers['sepia-error'], 'MANIFEST_BLOB_MISSING');
  t.equal((await c.get('o2', '/v1/tags?upstream=local&repository=no/such')).status, 404);
});

t.test('the upstream tag list is merged and paged', async (t) => {
  const { upstream, c } = await startPullThrough(t, 1);
  for (const tag of ['b', 'a', 'c']) upstream.addManifest('lib/x', tag, manifest(tag), OCI_MANIFEST);
  const all = await c.get('o1', `/v1/tags?${HUB}`);
  t.same(JSON.parse(all.bytes.toString()), { tags: ['a', 'b', 'c'] });
  const page = await c.get('o1', `/v1/tags?${HUB}&n=1&last=a`);
  t.same(JSON.parse(page.bytes.toString()), { tags: ['b'] });
});
