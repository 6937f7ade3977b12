import { randomBytes } from 'node:crypto';
import { digestOf } from '@sepia/base/digest';
import { OCI_MANIFEST } from '@sepia/oci/manifest';
import t from 'tap';
import { startCluster, type TestCluster } from '../support/cluster.ts';
import { startPullThrough } from '../support/pull-through.ts';

type Answer = Awaited<ReturnType<TestCluster['call']>>;

async function remove(c: TestCluster, query: string, what: object): Promise<Record<string, unknown>> {
  const call = { method: 'POST', path: `/v1/removals?${query}`, body: JSON.stringify(what) } as const;
  const answer = await c.call('o2', call);
  t.equal(answer.status, 200, answer.bytes.toString());
  return JSON.parse(answer.bytes.toString()) as Record<string, unknown>;
}

async function read(c: TestCluster, id: string, query: string, reference: string): Promise<Answer> {
  return await c.get(id, `/v1/manifests?${query}&reference=${reference}`);
}

t.test('mode none: a purge deletes, also an immutable tag, and the history says so', async (t) => {
  const c = await startCluster(t, {
    origins: 7,
    upstreams: [{ name: 'fixed', mode: 'none', tags: { policy: 'immutable' } }],
  });
  const query = 'upstream=fixed&repository=team/app';
  const digests = new Map<string, string>();
  for (const tag of ['v1', 'v2', 'v3']) {
    const blob = randomBytes(100);
    const put = `/v1/blobs/${digestOf(blob)}?${query}`;
    t.equal((await c.put('o1', put, blob)).status, 201);
    const layers = [{ mediaType: 'application/octet-stream', digest: digestOf(blob), size: 100 }];
    const body = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: OCI_MANIFEST, layers }));
    digests.set(tag, digestOf(body));
    const headers = { 'content-type': OCI_MANIFEST };
    const path = `/v1/manifests?${query}&reference=${tag}`;
    t.equal((await c.put('o1', path, body, headers)).status, 201);
  }
  t.match(await remove(c, query, { tag: 'v1' }), { tags: ['v1'], missed: [] });
  for (const id of c.ids) t.equal((await read(c, id, query, 'v1')).status, 404, id);
  t.equal((await read(c, 'o1', query, digests.get('v1')!)).status, 200, 'the manifest stays by its digest');
  const history = await c.get('o4', `/v1/tags/history?${query}&tag=v1`);
  t.match(JSON.parse(history.bytes.toString()), { history: [{ how: 'push' }, { how: 'purge', by: 'o2' }] });
  await remove(c, query, { digest: digests.get('v2') });
  for (const id of c.ids) t.equal((await read(c, id, query, digests.get('v2')!)).status, 404, id);
  t.equal((await read(c, 'o3', query, 'v3')).status, 200, 'others stay');
  t.match(await remove(c, query, {}), { tags: ['v3'] });
  for (const id of c.ids) {
    t.equal((await read(c, id, query, 'v3')).status, 404, id);
    t.equal((await read(c, id, query, digests.get('v3')!)).status, 404, id);
  }
  const bad = await c.call('o1', { method: 'POST', path: `/v1/removals?${query}`, body: '{"tag":"/"}' });
  t.equal(bad.status, 400);
});

t.test(
  'pull-through: cached copies go, what another repository has stays, the upstream is asked anew',
  async (t) => {
    const { upstream, c } = await startPullThrough(t, 3, { tags: { policy: 'pinned' } });
    const manifest = (text: string): object => ({
      schemaVersion: 2,
      mediaType: OCI_MANIFEST,
      layers: [],
      annotations: { text },
    });
    const query = 'upstream=hub&repository=lib/x';
    upstream.addManifest('lib/x', 'v1', manifest('one'), OCI_MANIFEST);
    for (const id of c.ids) t.match((await read(c, id, query, 'v1')).bytes.toString(), /one/);
    upstream.addManifest('lib/x', 'v1', manifest('two'), OCI_MANIFEST);
    t.match((await read(c, 'o1', query, 'v1')).bytes.toString(), /one/, 'pinned');
    t.match(await remove(c, query, { tag: 'v1' }), { tags: ['v1'], digests: 1, missed: [] });
    t.match((await read(c, 'o3', query, 'v1')).bytes.toString(), /two/, 'it is asked for upstream again');
    await c.stop('o3');
    t.match(await remove(c, query, {}), { tags: ['v1'], missed: ['o3'] });
    upstream.down = true;
    t.equal((await read(c, 'o1', query, 'v1')).status, 503, 'nothing is left of it');
  },
);
