import { digestOf } from '@sepia/base/digest';
import { OCI_MANIFEST } from '@sepia/oci/manifest';
import { call, pushBlob, pushManifest } from '@sepia/test-support/clients/registry-calls';
import { pushUntilTaken, randomImage } from '@sepia/test-support/clients/registry-client';
import { Constellation } from '@sepia/test-support/cluster/constellation';
import t from 'tap';

const CONFIG = Buffer.from('{}');
const FIELDS = {
  schemaVersion: 2,
  mediaType: OCI_MANIFEST,
  config: { mediaType: 'application/vnd.test', digest: digestOf(CONFIG), size: CONFIG.length },
  layers: [],
};

t.test('answers to odd questions', async (t) => {
  await using cluster = await Constellation.start(t.testdir(), {
    agents: 1,
    upstreams: [
      { name: 'local', mode: 'none' },
      { name: 'fixed', mode: 'none', hosts: ['fixed.test'], tags: { policy: 'immutable' } },
    ],
  });
  const proxy = cluster.proxyUrls[0]!;
  const doors = [proxy, cluster.agents[0]!.url];
  const image = randomImage([70_000]);
  await pushUntilTaken(() => proxy, 'team/app', 'v1', image);

  await t.test('HEAD has the headers of GET', async (t) => {
    const paths = [`manifests/v1`, `manifests/${image.manifestDigest}`, `blobs/${image.layers[0]!.digest}`];
    const names = ['cache-control', 'content-length', 'content-type', 'docker-content-digest', 'etag'];
    for (const door of doors)
      for (const path of paths) {
        const url = `${door}/v2/team/app/${path}`;
        const head = await call('HEAD', url);
        const got = await call('GET', url);
        const of = (answer: typeof got): unknown[] => names.map((name) => answer.headers[name]);
        t.same([head.status, of(head)], [200, of(got)], url);
      }
  });

  await t.test('a part of what is empty is all of it', async (t) => {
    const empty = Buffer.alloc(0);
    await pushBlob(proxy, 'team/app', empty);
    for (const door of doors)
      for (const range of ['bytes=0-', 'bytes=0-1023', 'bytes=-5', 'bytes=0-0,2-3']) {
        const got = await call('GET', `${door}/v2/team/app/blobs/${digestOf(empty)}`, { headers: { range } });
        t.same([got.status, got.headers['content-length']], [200, '0'], `${door} ${range}`);
      }
  });

  await t.test('a page larger than any is the largest', async (t) => {
    await pushBlob(proxy, 'team/app', CONFIG);
    await pushManifest(proxy, 'team/app', FIELDS, 'v2');
    for (const door of doors)
      for (const n of ['1000000000', '9'.repeat(300)]) {
        const tags = await call('GET', `${door}/v2/team/app/tags/list?n=${n}`);
        t.same([tags.status, tags.json()], [200, { name: 'team/app', tags: ['v1', 'v2'] }]);
        t.equal(tags.headers['link'], undefined);
        const catalog = await call('GET', `${door}/v2/_catalog?n=${n}`);
        t.same([catalog.status, catalog.json()], [200, { repositories: ['team/app'] }]);
      }
  });

  await t.test('no further tag of a push moves an immutable one', async (t) => {
    await call('POST', `${proxy}/v2/a/b/blobs/uploads/?digest=${digestOf(CONFIG)}&ns=fixed.test`, {
      body: CONFIG,
    });
    const put = async (note: string, path: string): Promise<ReturnType<typeof call>> => {
      const body = Buffer.from(JSON.stringify({ ...FIELDS, annotations: { note } }));
      const url = `${proxy}/v2/a/b/manifests/${path.replace('DIGEST', digestOf(body))}&ns=fixed.test`;
      return call('PUT', url, { body, headers: { 'content-type': OCI_MANIFEST } });
    };
    t.equal((await put('first', 'v1?')).status, 201);
    const first = (await call('HEAD', `${proxy}/v2/a/b/manifests/v1?ns=fixed.test`)).headers['etag'];
    for (const path of ['DIGEST?tag=v1', 'DIGEST?tag=v1&tag=v1', 'DIGEST?tag=v2&tag=v1&tag=v3&tag=v1']) {
      const answer = await put(path, path);
      t.equal(answer.status, 201, path);
      t.notOk([answer.headers['oci-tag']].flat().includes('v1'), path);
    }
    t.equal((await put('over', 'v1?tag=v1&tag=v1')).code, 'DENIED');
    for (const query of ['tag=v4&tag=v1', 'tag=v1&tag=v1'])
      await call('DELETE', `${proxy}/v2/a/b/manifests/v1?${query}&ns=fixed.test`);
    const now = (await call('HEAD', `${proxy}/v2/a/b/manifests/v1?ns=fixed.test`)).headers['etag'];
    t.equal(now, first);
    t.match(first, /^"sha256:/);
  });

  await t.test('errors name no address of a member', async (t) => {
    for (const door of doors)
      for (const path of [`manifests/none`, `blobs/${digestOf(Buffer.from('none'))}`, 'tags/list?n=x']) {
        const answer = await call('GET', `${door}/v2/team/none/${path}`);
        t.ok(answer.status >= 400);
        t.notMatch(answer.bytes.toString(), /https?:|127\.0\.0\.1/, path);
      }
  });
});
