import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { type Digest, digestHex } from '@sepia/base/digest';
import type { BlobFetchState } from '@sepia/cluster/api/blob-answers';
import { H_UPSTREAM_AUTHORIZATION } from '@sepia/cluster/api/headers';
import { OCI_MANIFEST } from '@sepia/oci/manifest';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import type { TestCluster } from './support/cluster.ts';
import { startPullThrough } from './support/pull-through.ts';
import type { TestUpstream } from './support/upstream.ts';

const HUB = 'upstream=hub&repository=lib/x';
const MIB = 1024 * 1024;

function manifest(text: string, layers: object[] = []): object {
  return { schemaVersion: 2, mediaType: OCI_MANIFEST, layers, annotations: { text } };
}

async function get(c: TestCluster, id: string, reference = 'v1', more = ''): ReturnType<TestCluster['call']> {
  return await c.get(id, `/v1/manifests?${HUB}&reference=${reference}${more}`);
}

const headsOf = (upstream: TestUpstream): number =>
  upstream.requests.filter((line) => line.startsWith('HEAD ')).length;

/** Asks until it is no longer running. */
async function fetchWhole(c: TestCluster, id: string, digest: string, more = ''): Promise<BlobFetchState> {
  for (;;) {
    const path = `/v1/blobs/${digest}/fetch?${HUB}&wait=5000${more}`;
    const { status, bytes } = await c.call(id, { method: 'POST', path });
    if (status !== 200) throw new Error(`${status} ${bytes.toString()}`);
    const found = JSON.parse(bytes.toString()) as BlobFetchState;
    if (found.state === 'final') return found;
  }
}

async function holdersOf(c: TestCluster, digest: string): Promise<string[]> {
  const found: string[] = [];
  for (const id of c.ids) {
    const { bytes } = await c.get(id, `/v1/blobs/${digest}/where?${HUB}`);
    if ((JSON.parse(bytes.toString()) as { state: string }).state === 'final') found.push(id);
  }
  return found;
}

t.test('a blob is fetched whole without a reader, once, whichever origins are asked', async (t) => {
  const { upstream, c } = await startPullThrough(t, 7);
  const digest = upstream.addBlob(randomBytes(3 * MIB + 5));
  const all = await Promise.all(c.ids.map(async (id) => await fetchWhole(c, id, digest)));
  for (const one of all) {
    t.equal(one.sizeBytes, 3 * MIB + 5);
    t.equal(one.haveBytes, one.sizeBytes);
    t.equal(one.holders.length, 1);
  }
  t.same(await holdersOf(c, digest), [...new Set(all.flatMap(({ holders }) => holders))]);
  t.equal(upstream.requests.filter((line) => line.startsWith(`GET /v2/lib/x/blobs/${digest}`)).length, 1);
});

t.test('copies=all brings it to every owner, also after one copy was there', async (t) => {
  const { upstream, c } = await startPullThrough(t, 7);
  const digest = upstream.addBlob(randomBytes(2 * MIB));
  await fetchWhole(c, 'o1', digest);
  const found = await fetchWhole(c, 'o4', digest, '&copies=all');
  t.same([...found.holders].sort(), [...c.cluster.origins(digest).owners].sort());
  t.same(await holdersOf(c, digest), [...found.holders].sort());
  t.same(found.failed, {});
  t.equal(upstream.requests.filter((line) => line.startsWith(`GET /v2/lib/x/blobs/${digest}`)).length, 1);
});

t.test('progress is told while it runs; what fails is told with its code', async (t) => {
  const { upstream, c } = await startPullThrough(t, 7);
  const digest = upstream.addBlob(randomBytes(4 * MIB));
  upstream.rate = 4 * MIB;
  const path = `/v1/blobs/${digest}/fetch?${HUB}&wait=1`;
  await until(async () => {
    const { bytes } = await c.call('o2', { method: 'POST', path });
    const { state, haveBytes } = JSON.parse(bytes.toString()) as BlobFetchState;
    return state === 'running' && haveBytes > 0 && haveBytes < 4 * MIB;
  }, 'a part of it is told');
  upstream.rate = 0;
  t.equal((await fetchWhole(c, 'o3', digest)).haveBytes, 4 * MIB);
  const none = `sha256:${'e'.repeat(64)}`;
  const missing = await c.call('o1', { method: 'POST', path: `/v1/blobs/${none}/fetch?${HUB}&wait=1000` });
  t.equal(missing.status, 404);
  t.equal(missing.headers['sepia-error'], 'BLOB_UNKNOWN');
});

t.test('fresh asks upstream although the record is young; pinned tags stay', async (t) => {
  const { upstream, c } = await startPullThrough(t, 7, { tags: { ttl: '1h' } });
  upstream.addManifest('lib/x', 'v1', manifest('one'), OCI_MANIFEST);
  for (const id of c.ids) t.match((await get(c, id)).bytes.toString(), /one/);
  upstream.addManifest('lib/x', 'v1', manifest('two'), OCI_MANIFEST);
  t.match((await get(c, 'o5')).bytes.toString(), /one/, 'within the ttl');
  t.match((await get(c, 'o6', 'v1', '&fresh=1')).bytes.toString(), /two/);
  for (const id of c.ids) t.match((await get(c, id)).bytes.toString(), /two/, id);
});

t.test('a tag that one login is not shown stays what it is for others', async (t) => {
  const { upstream, c } = await startPullThrough(t, 3, { tags: { ttl: '1h' } });
  upstream.addManifest('lib/x', 'v1', manifest('one'), OCI_MANIFEST);
  for (const id of c.ids) t.equal((await get(c, id)).status, 200, id);
  upstream.hidesFrom = 'Bearer somebody';
  const brought = { [H_UPSTREAM_AUTHORIZATION]: upstream.hidesFrom };
  for (const id of c.ids) {
    const told = await c.get(id, `/v1/manifests?${HUB}&reference=v1&fresh=1`, brought);
    t.equal(told.headers['sepia-error'], 'TAG_UNKNOWN', id);
  }
  upstream.down = true;
  for (const id of c.ids) t.match((await get(c, id)).bytes.toString(), /one/, id);
});

t.test('purge: what is gone upstream is gone everywhere, with every tag that named it', async (t) => {
  const { upstream, c } = await startPullThrough(t, 7, { tags: { ttl: '1h' } });
  const gone = upstream.addManifest('lib/x', 'v1', manifest('one'), OCI_MANIFEST);
  upstream.addManifest('lib/x', 'also', manifest('one'), OCI_MANIFEST);
  const kept = upstream.addManifest('lib/x', 'v2', manifest('two'), OCI_MANIFEST);
  for (const reference of ['v1', 'also', 'v2', gone, kept])
    for (const id of c.ids) t.equal((await get(c, id, reference)).status, 200);
  const purge = async (id: string, what: object): Promise<unknown> => {
    const path = `/v1/purge?${HUB}`;
    const body = JSON.stringify(what);
    const { bytes } = await c.call(id, {
      method: 'POST',
      path,
      body,
      headers: { 'content-type': 'application/json' },
    });
    return JSON.parse(bytes.toString());
  };
  t.match(await purge('o3', { digest: gone, tag: 'v1' }), { gone: false }, 'still there upstream');
  t.equal((await get(c, 'o1', gone)).status, 200);
  for (const reference of ['v1', 'also', gone]) upstream.manifests.delete(`lib/x:${reference}`);
  const result = (await purge('o3', { digest: gone, tag: 'v1' })) as { tags: string[] };
  t.match(result, { gone: true, missed: [] });
  t.same(result.tags.sort(), ['also', 'v1']);
  for (const id of c.ids) {
    for (const reference of ['v1', 'also', gone])
      t.equal((await get(c, id, reference)).status, 404, `${id} ${reference}`);
    t.equal((await get(c, id, 'v2')).status, 200, id);
  }
  t.match(await purge('o2', {}), { errors: [{ message: /neither digest nor tag/ }] });
});

t.test('purge: a manifest of a kind that is not known leaves the disks, too', async (t) => {
  const { upstream, c } = await startPullThrough(t, 3);
  const own = 'application/vnd.example.thing.v1+json';
  const gone = upstream.addManifest('lib/x', 'v1', { schemaVersion: 2, mediaType: own }, own);
  for (const id of c.ids) t.equal((await get(c, id, gone)).status, 200);
  const hex = digestHex(gone as Digest);
  const kept = (): string[] =>
    c.ids.filter((id) => existsSync(join(c.dataOf(id), 'v1/blobs/sha256', hex.slice(0, 2), hex)));
  await until(() => kept().length > 0, 'it is kept');
  for (const reference of ['v1', gone]) upstream.manifests.delete(`lib/x:${reference}`);
  const body = JSON.stringify({ digest: gone });
  const { bytes } = await c.call('o1', {
    method: 'POST',
    path: `/v1/purge?${HUB}`,
    body,
    headers: { 'content-type': 'application/json' },
  });
  t.match(JSON.parse(bytes.toString()), { gone: true, missed: [] });
  t.same(kept(), []);
});

t.test('purge in mode none is refused: nothing behind could confirm it', async (t) => {
  const { c } = await startPullThrough(t, 1);
  const answer = await c.call('o1', {
    method: 'POST',
    path: '/v1/purge?upstream=local&repository=lib/x',
    body: '{"tag":"v1"}',
  });
  t.equal(answer.status, 405);
});

t.test('recheck always: a policy gate stops a manifest that is cached', async (t) => {
  const { upstream, c } = await startPullThrough(t, 7, { 'manifest-recheck': 'always' });
  const digest = upstream.addManifest('lib/x', 'v1', manifest('one'), OCI_MANIFEST);
  for (const id of c.ids) t.equal((await get(c, id, digest)).status, 200, id);
  upstream.refuse = { status: 412, code: 'PROJECTPOLICYVIOLATION', message: 'has vulnerabilities' };
  for (const id of c.ids) {
    const answer = await get(c, id, digest);
    t.equal(answer.status, 412, id);
    t.equal(answer.headers['sepia-error'], 'UPSTREAM_POLICY', id);
    t.match(answer.bytes.toString(), /policy/);
  }
  upstream.refuse = undefined;
  t.equal((await get(c, 'o1', digest)).status, 200);
  upstream.down = true;
  t.equal((await get(c, 'o1', digest)).status, 200, 'within the stale limit');
});

t.test('recheck ttl asks once per ttl', async (t) => {
  const { upstream, c } = await startPullThrough(t, 1, { 'manifest-recheck': 'ttl', tags: { ttl: '1h' } });
  const digest = upstream.addManifest('lib/x', 'v1', manifest('one'), OCI_MANIFEST);
  for (let count = 0; count < 5; count++) await get(c, 'o1', digest);
  t.equal(headsOf(upstream), 1);
});

t.test('recheck never asks nobody', async (t) => {
  const { upstream, c } = await startPullThrough(t, 1);
  const digest = upstream.addManifest('lib/x', 'v1', manifest('one'), OCI_MANIFEST);
  for (let count = 0; count < 5; count++) await get(c, 'o1', digest);
  t.equal(headsOf(upstream), 0);
});

t.test(
  'pull times: what is served is asked for by GET once per interval, what is not is left alone',
  async (t) => {
    const { upstream, c } = await startPullThrough(t, 1, { 'refresh-pull-times': '1s', tags: { ttl: '1h' } });
    upstream.addManifest('lib/x', 'v1', manifest('one'), OCI_MANIFEST);
    upstream.addManifest('lib/x', 'v2', manifest('two'), OCI_MANIFEST);
    const gets = (tag: string): number =>
      upstream.requests.filter((line) => line === `GET /v2/lib/x/manifests/${tag}`).length;
    await get(c, 'o1', 'v1');
    await get(c, 'o1', 'v2');
    await until(async () => {
      await get(c, 'o1', 'v1');
      return gets('v1') >= 3;
    }, 'refreshed twice');
    t.equal(gets('v2'), 1, 'nobody asked for it again');
  },
);
