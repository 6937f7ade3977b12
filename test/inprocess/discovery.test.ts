import { join } from 'node:path';
import { type Digest, digestOf } from '@sepia/base/digest';
import { OCI_INDEX, OCI_MANIFEST } from '@sepia/oci/manifest';
import { call, callUntilAnswered, pushBlob, pushManifest } from '@sepia/test-support/clients/registry-calls';
import { Constellation } from '@sepia/test-support/cluster/constellation';
import { until } from '@sepia/test-support/until';
import { FakeUpstream } from '@sepia/test-support/upstream/fake-upstream';
import t from 'tap';

interface Index {
  readonly schemaVersion: number;
  readonly mediaType: string;
  readonly manifests: readonly {
    readonly digest: Digest;
    readonly artifactType?: string;
    readonly annotations?: Readonly<Record<string, string>>;
  }[];
}

const EMPTY = Buffer.from('{}');
const SUBJECT = digestOf(Buffer.from('a subject that nobody pushed'));

/** An artifact that names a subject. */
function referrer(subject: Digest, artifactType: string | undefined, note: string): object {
  return {
    schemaVersion: 2,
    mediaType: OCI_MANIFEST,
    ...(artifactType === undefined ? {} : { artifactType }),
    config: { mediaType: 'application/vnd.test.config', digest: digestOf(EMPTY), size: EMPTY.length },
    layers: [],
    subject: { mediaType: OCI_MANIFEST, digest: subject, size: 2 },
    annotations: { note },
  };
}

/** All pages of a list, following `Link` at the same endpoint. */
async function pages<T>(url: string, path: string): Promise<T[]> {
  const all: T[] = [];
  for (let next: string | undefined = path; next !== undefined; ) {
    const answer = await callUntilAnswered('GET', new URL(next, url));
    if (answer.status !== 200) throw new Error(`${next}: ${answer.status} ${answer.bytes}`);
    all.push(answer.json<T>());
    next = /^<([^>]+)>; rel="next"$/.exec(String(answer.headers['link'] ?? ''))?.[1];
    if (all.length > 50) throw new Error('pages without end');
  }
  return all;
}

t.test('referrers: the same at every proxy and agent, filtered, and gone with their manifest', async (t) => {
  await using cluster = await Constellation.start(t.testdir(), { origins: 7, proxies: 3, agents: 1 });
  const [first, second, third] = cluster.proxyUrls as [string, string, string];
  await pushBlob(first, 'team/app', EMPTY);
  const signature = await pushManifest(second, 'team/app', referrer(SUBJECT, 'test/signature+json', 'a'));
  const bill = await pushManifest(third, 'team/app', referrer(SUBJECT, undefined, 'b'));
  for (const url of [...cluster.proxyUrls, cluster.agents[0]!.url]) {
    const all = await callUntilAnswered('GET', `${url}/v2/team/app/referrers/${SUBJECT}`);
    t.equal(all.headers['content-type'], OCI_INDEX);
    t.notOk(all.headers['oci-filters-applied']);
    const { schemaVersion, mediaType, manifests } = all.json<Index>();
    t.same([schemaVersion, mediaType], [2, OCI_INDEX]);
    t.same(
      manifests.map((one) => one.digest),
      [signature, bill].sort(),
    );
    t.same(manifests.find((one) => one.digest === signature)?.annotations, { note: 'a' });
    t.equal(
      manifests.find((one) => one.digest === bill)?.artifactType,
      'application/vnd.test.config',
      'the type of the config where there is no artifactType',
    );
    for (const written of ['test%2Fsignature%2Bjson', 'test/signature+json']) {
      const some = await callUntilAnswered(
        'GET',
        `${url}/v2/team/app/referrers/${SUBJECT}?artifactType=${written}`,
      );
      t.equal(some.headers['oci-filters-applied'], 'artifactType');
      t.same(
        some.json<Index>().manifests.map((one) => one.digest),
        [signature],
        written,
      );
    }
    const none = await callUntilAnswered('GET', `${url}/v2/team/app/referrers/${digestOf(Buffer.from('x'))}`);
    t.same([none.status, none.json<Index>().manifests], [200, []]);
    t.equal((await callUntilAnswered('GET', `${url}/v2/team/app/referrers/sha256:nonsense`)).status, 400);
  }
  t.equal((await call('DELETE', `${first}/v2/team/app/manifests/${signature}`)).status, 202);
  for (const url of [...cluster.proxyUrls, cluster.agents[0]!.url]) {
    const left = (await callUntilAnswered('GET', `${url}/v2/team/app/referrers/${SUBJECT}`)).json<Index>();
    t.same(
      left.manifests.map((one) => one.digest),
      [bill],
    );
  }
  await pushManifest(second, 'team/app', referrer(SUBJECT, 'test/signature+json', 'a'));
  const back = (await callUntilAnswered('GET', `${third}/v2/team/app/referrers/${SUBJECT}`)).json<Index>();
  t.equal(back.manifests.length, 2, 'pushed again after a delete');
});

t.test('many referrers come in pages, at an agent with links that lead back to it', async (t) => {
  await using cluster = await Constellation.start(t.testdir(), {
    proxies: 1,
    agents: 1,
    upstreams: [
      { name: 'local', mode: 'none' },
      { name: 'other', mode: 'none', hosts: ['other.test'] },
    ],
  });
  const [url] = cluster.proxyUrls as [string];
  const ns = '?ns=other.test';
  const begun = await callUntilAnswered(
    'POST',
    `${url}/v2/app/blobs/uploads/?digest=${digestOf(EMPTY)}&ns=other.test`,
    {
      body: EMPTY,
    },
  );
  t.equal(begun.status, 201);
  const digests: Digest[] = [];
  // Big annotations fill a page long before the number of descriptors does.
  const note = 'x'.repeat(400_000);
  for (let at = 0; at < 7; at++) {
    const bytes = Buffer.from(JSON.stringify(referrer(SUBJECT, 'test/x', `${at}${note}`)));
    digests.push(digestOf(bytes));
    const put = await callUntilAnswered('PUT', `${url}/v2/app/manifests/${digestOf(bytes)}${ns}`, {
      body: bytes,
      headers: { 'content-type': OCI_MANIFEST },
    });
    t.equal(put.status, 201);
    t.equal(put.headers['oci-subject'], SUBJECT);
  }
  for (const at of [url, cluster.agents[0]!.url]) {
    const path = `/v2/app/referrers/${SUBJECT}?artifactType=test/x&ns=other.test`;
    const all = await pages<Index>(at, path);
    t.ok(all.length > 1, `${all.length} pages`);
    t.same(
      all.flatMap((one) => one.manifests.map(({ digest }) => digest)),
      [...digests].sort(),
    );
  }
});

t.test('the catalog: sorted, in pages, per upstream, without what is empty', async (t) => {
  await using cluster = await Constellation.start(t.testdir(), {
    origins: 7,
    proxies: 3,
    agents: 1,
    upstreams: [
      { name: 'local', mode: 'none' },
      { name: 'other', mode: 'none', hosts: ['other.test'] },
    ],
  });
  const names = ['a', 'a-b', 'a/b', 'a/b/c', 'b', 'team/app', 'z9'];
  for (const [at, name] of names.entries())
    await pushBlob(cluster.proxyUrls[at % 3]!, name, Buffer.from(name));
  const begun = await callUntilAnswered(
    'POST',
    `${cluster.proxyUrls[0]}/v2/there/blobs/uploads/?digest=${digestOf(EMPTY)}&ns=other.test`,
    { body: EMPTY },
  );
  t.equal(begun.status, 201);
  for (const url of [...cluster.proxyUrls, cluster.agents[0]!.url]) {
    for (const n of ['', '?n=1', '?n=2', '?n=100']) {
      const all = await pages<{ repositories: string[] }>(url, `/v2/_catalog${n}`);
      t.same(
        all.flatMap((one) => one.repositories),
        [...names].sort(),
        n,
      );
    }
    const other = await pages<{ repositories: string[] }>(url, '/v2/_catalog?ns=other.test');
    t.same(other, [{ repositories: ['there'] }]);
    t.equal((await callUntilAnswered('GET', `${url}/v2/_catalog?ns=nowhere.test`)).status, 404);
    t.equal((await callUntilAnswered('GET', `${url}/v2/_catalog?n=x`)).status, 400);
    for (const [last, first] of [
      ['a/', 2],
      ['B', 0],
      ['team/zz', 6],
    ] as const) {
      const [page] = await pages<{ repositories: string[] }>(url, `/v2/_catalog?last=${last}`);
      t.same(page?.repositories, [...names].sort().slice(first), `behind ${last}, which is no name here`);
    }
    t.equal((await callUntilAnswered('GET', `${url}/v2/_catalog?last=%00`)).status, 400);
    t.equal((await call('DELETE', `${url}/v2/_catalog`)).status, 405);
  }
  const gone = await call('DELETE', `${cluster.proxyUrls[1]}/v2/b/blobs/${digestOf(Buffer.from('b'))}`);
  t.equal(gone.status, 202);
  await cluster.stopMember('origin-4');
  const left = await pages<{ repositories: string[] }>(cluster.proxyUrls[2]!, '/v2/_catalog?n=3');
  t.same(
    left.flatMap((one) => one.repositories),
    names.filter((name) => name !== 'b').sort(),
    'one origin of seven is not missed',
  );
});

t.test('an upload session is known in its own repository alone', async (t) => {
  await using cluster = await Constellation.start(t.testdir(), { proxies: 2, agents: 0 });
  const [url, second] = cluster.proxyUrls as [string, string];
  const begun = await call('POST', `${url}/v2/team/app/blobs/uploads/`);
  const location = String(begun.headers['location']);
  const foreign = location.replace('team/app', 'team/other');
  const headers = { 'content-type': 'application/octet-stream' };
  for (const [method, target] of [
    ['GET', foreign],
    ['PATCH', foreign],
    ['PUT', `${foreign}?digest=${digestOf(EMPTY)}`],
    ['DELETE', foreign],
  ] as const) {
    const body = method === 'PATCH' || method === 'PUT' ? { body: EMPTY, headers } : {};
    const answer = await call(method, `${second}${target}`, body);
    t.same([answer.status, answer.code], [404, 'BLOB_UPLOAD_UNKNOWN'], method);
  }
  t.equal((await call('PATCH', `${second}${location}`, { body: EMPTY, headers })).status, 202);
  t.equal((await call('PUT', `${url}${location}?digest=${digestOf(EMPTY)}`)).status, 201);
});

t.test(
  'pull-through: referrers of the upstream, by its API or its tags; deletes are refused in words',
  async (t) => {
    const dir = t.testdir();
    await using registry = await Constellation.start(join(dir, 'registry'), {
      origins: 1,
      proxies: 1,
      trackers: 1,
      agents: 0,
    });
    const tagged = await FakeUpstream.start();
    t.teardown(() => tagged.stop());
    await using cluster = await Constellation.start(join(dir, 'cluster'), {
      proxies: 2,
      agents: 1,
      upstreams: [
        { name: 'api', mode: 'pull-through', url: registry.proxyUrls[0]! },
        { name: 'tags', mode: 'pull-through', url: tagged.url, hosts: ['tags.test'] },
      ],
    });
    await pushBlob(registry.proxyUrls[0]!, 'app', EMPTY);
    const digest = await pushManifest(registry.proxyUrls[0]!, 'app', referrer(SUBJECT, 'test/x', 'a'), 'v1');
    const index = Buffer.from(
      JSON.stringify({
        schemaVersion: 2,
        mediaType: OCI_INDEX,
        manifests: [{ mediaType: OCI_MANIFEST, digest, size: 7, artifactType: 'test/x' }],
      }),
    );
    const listed = { digest: digestOf(index), mediaType: OCI_INDEX, bytes: index };
    tagged.addManifest('app', listed, SUBJECT.replace(':', '-'));
    const [url] = cluster.proxyUrls as [string];
    for (const at of [url, cluster.agents[0]!.url]) {
      for (const ns of ['', 'ns=tags.test']) {
        const all = (await callUntilAnswered('GET', `${at}/v2/app/referrers/${SUBJECT}?${ns}`)).json<Index>();
        t.same(
          all.manifests.map((one) => one.digest),
          [digest],
          ns,
        );
        const none = await callUntilAnswered(
          'GET',
          `${at}/v2/app/referrers/${SUBJECT}?artifactType=other&${ns}`,
        );
        t.same(none.json<Index>().manifests, []);
      }
    }
    for (const what of [`manifests/${digest}`, 'manifests/v1', `blobs/${digestOf(EMPTY)}`]) {
      const refused = await call('DELETE', `${url}/v2/app/${what}`);
      t.same([refused.status, refused.code], [405, 'UNSUPPORTED']);
      t.match(refused.bytes.toString(), /upstream api has mode pull-through/);
      const atAgent = await call('DELETE', `${cluster.agents[0]!.url}/v2/app/${what}`);
      t.equal(atAgent.status, 405);
      t.match(atAgent.bytes.toString(), url);
    }
    // What passed is on record, and all there is once the upstream is gone.
    t.equal((await callUntilAnswered('GET', `${url}/v2/app/manifests/v1`)).status, 200);
    const known = await callUntilAnswered('GET', `${url}/v2/_catalog`);
    t.same(known.json(), { repositories: ['app'] });
    await registry.stop();
    await until(
      async () => (await call('GET', `${url}/v2/app/referrers/${SUBJECT}`)).status === 200,
      'referrers on record',
    );
  },
);
