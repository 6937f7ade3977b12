import { getChecked, sha256 } from '@sepia/test-support/clients/registry-client';
import { Constellation } from '@sepia/test-support/cluster/constellation';
import { makeImage, makeIndex, seededBytes } from '@sepia/test-support/upstream/fake-upstream';
import t, { type Test } from 'tap';
import { type Dispatcher, request } from 'undici';

const MIB = 1024 * 1024;
const CHUNK = 10 * MIB;
/** As Harbor's adapter sends them: six lines, not one. */
const ACCEPT = [
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.v2+json',
  'application/vnd.docker.distribution.manifest.v1+prettyjws',
  'application/vnd.docker.distribution.manifest.v1+json',
];

interface Reply {
  readonly status: number;
  readonly headers: Record<string, string | string[] | undefined>;
  readonly text: string;
}

interface Target {
  readonly next: () => string;
  send(method: string, path: string, headers?: [string, string][], body?: Buffer): Promise<Reply>;
}

/** 7 origins, 3 proxies, each request at the next proxy. */
async function setUp(t: Test): Promise<Target> {
  let cluster: Constellation | undefined;
  t.teardown(() => cluster?.stop());
  cluster = await Constellation.start(t.testdir(), { origins: 7, proxies: 3, trackers: 0, agents: 0 });
  const { proxyUrls } = cluster;
  let turn = 0;
  const next = (): string => proxyUrls[turn++ % 3]!;
  const send = async (
    method: string,
    path: string,
    headers: [string, string][] = [],
    body?: Buffer,
  ): Promise<Reply> => {
    const length = body?.length ?? (method === 'POST' || method === 'PUT' ? 0 : undefined);
    const all = [
      ['user-agent', 'harbor-registry-client'],
      ...headers,
      ...(length === undefined ? [] : [['content-length', String(length)]]),
    ].flat();
    const answer = await request(new URL(path, next()), {
      method: method as Dispatcher.HttpMethod,
      headers: all,
      ...(body === undefined ? {} : { body }),
      headersTimeout: 60_000,
    });
    return { status: answer.statusCode, headers: answer.headers, text: await answer.body.text() };
  };
  return { next, send };
}

const accepting = (): [string, string][] => ACCEPT.map((type) => ['accept', type]);

/** Query of a Location kept, but encoded and ordered anew, as Go does. */
function withDigest(location: string, digest: string): string {
  const url = new URL(location, 'http://x');
  url.searchParams.set('digest', digest);
  url.searchParams.sort();
  return `${url.pathname}?${url.searchParams.toString()}`;
}

function locationOf(t: Test, reply: Reply): string {
  const location = String(reply.headers['location']);
  t.match(location, /^\/v2\//, 'a relative Location: credentials go to the same host only');
  return location;
}

async function pushWhole(t: Test, target: Target, repository: string, bytes: Buffer): Promise<void> {
  const digest = sha256(bytes);
  t.equal((await target.send('HEAD', `/v2/${repository}/blobs/${digest}`)).status, 404);
  const begun = await target.send('POST', `/v2/${repository}/blobs/uploads/`);
  t.equal(begun.status, 202);
  const put = await target.send('PUT', withDigest(locationOf(t, begun), digest), [], bytes);
  t.equal(put.status, 201, put.text);
  t.equal((await target.send('HEAD', `/v2/${repository}/blobs/${digest}`)).status, 200);
}

t.test('ping: anonymous, then again; without credentials a 2xx without a challenge', async (t) => {
  const target = await setUp(t);
  const reply = await target.send('GET', '/v2/');
  t.equal(reply.status, 200);
  t.equal(reply.headers['www-authenticate'], undefined);
});

t.test('one artifact in wire order: an index of two platforms', async (t) => {
  const target = await setUp(t);
  const index = makeIndex({ layers: [3 * MIB, 1024], seed: 'replicated' });
  const repository = 'mirror/library/app';
  const tag = `/v2/${repository}/manifests/v1`;
  t.equal((await target.send('HEAD', tag, accepting())).status, 404);
  for (const image of index.images) {
    const path = `/v2/${repository}/manifests/${image.manifest.digest}`;
    t.equal((await target.send('HEAD', path, accepting())).status, 404);
    for (const bytes of image.blobs.values()) await pushWhole(t, target, repository, bytes);
    const put = await target.send(
      'PUT',
      path,
      [['content-type', image.manifest.mediaType]],
      image.manifest.bytes,
    );
    t.equal(put.status, 201, put.text);
  }
  const { manifest } = index;
  const put = await target.send('PUT', tag, [['content-type', manifest.mediaType]], manifest.bytes);
  t.equal(put.status, 201, put.text);
  for (let count = 0; count < 3; count++) {
    const head = await target.send('HEAD', tag, accepting());
    t.equal(head.status, 200);
    t.equal(head.headers['docker-content-digest'], manifest.digest, 'equal: the next run skips it');
    t.equal(head.headers['content-type'], manifest.mediaType);
    t.equal(head.headers['content-length'], String(manifest.bytes.length));
  }
  const layer = index.images[0]!.layers[0]!;
  await getChecked(`${target.next()}/v2/${repository}/blobs/${layer}`, layer);
  const tags = await target.send('GET', `/v2/${repository}/tags/list`);
  t.match(JSON.parse(tags.text), { tags: ['v1'] });
});

t.test(
  'chunks: ranges without unit, the last one by PUT with range and digest, through any proxy',
  async (t) => {
    const target = await setUp(t);
    const repository = 'mirror/library/big';
    const bytes = seededBytes(2 * CHUNK + 12_345, 'chunks');
    const digest = sha256(bytes);
    let location = locationOf(t, await target.send('POST', `/v2/${repository}/blobs/uploads/`));
    for (const start of [0, CHUNK]) {
      const range: [string, string][] = [['content-range', `${start}-${start + CHUNK - 1}`]];
      const patched = await target.send('PATCH', location, range, bytes.subarray(start, start + CHUNK));
      t.equal(patched.status, 202, patched.text);
      location = locationOf(t, patched);
      const status = await target.send('GET', location);
      t.equal(status.status, 204);
      t.equal(status.headers['range'], `0-${start + CHUNK - 1}`, 'two numbers around one dash');
      location = locationOf(t, status);
    }
    const end: [string, string][] = [['content-range', `${2 * CHUNK}-${bytes.length - 1}`]];
    const put = await target.send('PUT', withDigest(location, digest), end, bytes.subarray(2 * CHUNK));
    t.equal(put.status, 201, put.text);
    await getChecked(`${target.next()}/v2/${repository}/blobs/${digest}`, digest);
  },
);

t.test('chunks: one that is sent again is told where to go on', async (t) => {
  const target = await setUp(t);
  const repository = 'mirror/library/resumed';
  const bytes = seededBytes(2 * MIB, 'resumed');
  const digest = sha256(bytes);
  let location = locationOf(t, await target.send('POST', `/v2/${repository}/blobs/uploads/`));
  const first: [string, string][] = [['content-range', `0-${MIB - 1}`]];
  location = locationOf(t, await target.send('PATCH', location, first, bytes.subarray(0, MIB)));
  t.equal((await target.send('PATCH', location, first, bytes.subarray(0, MIB))).status, 416);
  const status = await target.send('GET', location);
  t.equal(status.headers['range'], `0-${MIB - 1}`);
  const rest: [string, string][] = [['content-range', `${MIB}-${2 * MIB - 1}`]];
  const put = await target.send('PUT', withDigest(locationOf(t, status), digest), rest, bytes.subarray(MIB));
  t.equal(put.status, 201, put.text);
});

t.test('accessories come by digest, before or after their subject, of any type', async (t) => {
  const target = await setUp(t);
  const repository = 'mirror/library/signed';
  const image = makeImage({ layers: [10_000], seed: 'subject' });
  const payload = Buffer.from('{"simple":"signing"}');
  const empty = Buffer.from('{}');
  const describe = (mediaType: string, bytes: Buffer): object => ({
    mediaType,
    digest: sha256(bytes),
    size: bytes.length,
  });
  const accessory = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: 'application/vnd.oci.image.manifest.v1+json',
      artifactType: 'application/vnd.example.signature.v9',
      config: describe('application/vnd.oci.empty.v1+json', empty),
      layers: [describe('application/vnd.dev.cosign.simplesigning.v1+json', payload)],
      subject: {
        mediaType: image.manifest.mediaType,
        digest: image.manifest.digest,
        size: image.manifest.bytes.length,
      },
    }),
  );
  await pushWhole(t, target, repository, payload);
  await pushWhole(t, target, repository, empty);
  const put = await target.send(
    'PUT',
    `/v2/${repository}/manifests/${sha256(accessory)}`,
    [['content-type', 'application/vnd.oci.image.manifest.v1+json']],
    accessory,
  );
  t.equal(put.status, 201, put.text);
  t.equal(put.headers['oci-subject'], image.manifest.digest);
  for (const bytes of image.blobs.values()) await pushWhole(t, target, repository, bytes);
  const path = `/v2/${repository}/manifests/v1`;
  const subject = await target.send(
    'PUT',
    path,
    [['content-type', image.manifest.mediaType]],
    image.manifest.bytes,
  );
  t.equal(subject.status, 201, subject.text);
});

t.test('foreign layers are never sent: a manifest may name them all the same', async (t) => {
  const target = await setUp(t);
  const repository = 'mirror/library/windows';
  const config = Buffer.from('{"os":"windows"}');
  await pushWhole(t, target, repository, config);
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: 'application/vnd.docker.distribution.manifest.v2+json',
      config: {
        mediaType: 'application/vnd.docker.container.image.v1+json',
        digest: sha256(config),
        size: config.length,
      },
      layers: [
        {
          mediaType: 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip',
          digest: `sha256:${'f'.repeat(64)}`,
          size: 1_000_000,
          urls: ['https://example.com/layer'],
        },
      ],
    }),
  );
  const type: [string, string][] = [['content-type', 'application/vnd.docker.distribution.manifest.v2+json']];
  t.equal((await target.send('PUT', `/v2/${repository}/manifests/v1`, type, manifest)).status, 201);
  const lacking = Buffer.from(manifest.toString('utf8').replace('.foreign.', '.'));
  const refused = await target.send('PUT', `/v2/${repository}/manifests/v2`, type, lacking);
  t.equal(refused.status, 400);
  t.match(refused.text, /MANIFEST_BLOB_UNKNOWN/);
});

t.test('deletion of an artifact: HEAD twice, then DELETE by digest', async (t) => {
  const target = await setUp(t);
  const repository = 'mirror/library/deleted';
  const image = makeImage({ layers: [10_000], seed: 'deleted' });
  for (const bytes of image.blobs.values()) await pushWhole(t, target, repository, bytes);
  const path = `/v2/${repository}/manifests/v1`;
  await target.send('PUT', path, [['content-type', image.manifest.mediaType]], image.manifest.bytes);
  for (let count = 0; count < 2; count++) {
    const head = await target.send('HEAD', path, accepting());
    t.equal(head.headers['docker-content-digest'], image.manifest.digest);
  }
  const gone = await target.send('DELETE', `/v2/${repository}/manifests/${image.manifest.digest}`);
  t.equal(gone.status, 202, gone.text);
  t.equal((await target.send('HEAD', path, accepting())).status, 404);
});
