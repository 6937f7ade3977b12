import { Readable } from 'node:stream';
import { digestOf } from '@sepia/base/digest';
import { OCI_MANIFEST } from '@sepia/oci/manifest';
import { Constellation } from '@sepia/test-support/cluster/constellation';
import t, { type Test } from 'tap';
import { type Answer, ask, type Content, contentOf, manifestOf, randomContent } from '../support/client.ts';

const MANIFEST_TYPES = [
  'application/vnd.docker.distribution.manifest.v2+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
  OCI_MANIFEST,
  'application/vnd.oci.image.index.v1+json',
  '*/*',
].join(', ');

/** Each request of a recorded sequence goes to another of three proxies. */
interface Session {
  send(
    method: string,
    path: string,
    headers?: Record<string, string>,
    body?: Buffer | Readable,
  ): Promise<Answer>;
}

function session(cluster: Constellation): Session {
  const urls = cluster.proxyUrls;
  let turn = 0;
  return {
    send: async (method, path, headers = {}, body) => {
      const url = urls[turn++ % urls.length]!;
      return await ask(url + path, method, body === undefined ? { headers } : { headers, body });
    },
  };
}

/** Clusters are disposed of before their folder goes, so not in a teardown. */
function start(t: Test): Promise<Constellation> {
  return Constellation.start(t.testdir(), { origins: 7, trackers: 0, proxies: 3, agents: 0 });
}

interface Image {
  readonly config: Content;
  readonly layers: readonly Content[];
  readonly manifest: Content;
}

function newImage(): Image {
  const config = contentOf(Buffer.from(JSON.stringify({ os: 'linux', at: Math.random() })));
  const layers = [randomContent(1_500_000), randomContent(20_000), randomContent(700)];
  return { config, layers, manifest: manifestOf(config, layers) };
}

function withDigest(location: unknown, digest: string): string {
  const text = String(location);
  return `${text}${text.includes('?') ? '&' : '?'}digest=${encodeURIComponent(digest)}`;
}

async function containerdPush(t: Test, { send }: Session, name: string, image: Image): Promise<void> {
  const accept = { accept: 'application/vnd.oci.image.layer.v1.tar+gzip, */*' };
  for (const blob of [...image.layers, image.config]) {
    t.equal((await send('HEAD', `/v2/${name}/blobs/${blob.digest}`, accept)).status, 404);
    const begun = await send('POST', `/v2/${name}/blobs/uploads/`);
    t.equal(begun.status, 202);
    const done = await send(
      'PUT',
      withDigest(begun.headers.location, blob.digest),
      { 'content-type': 'application/octet-stream' },
      blob.bytes,
    );
    t.equal(done.status, 201);
  }
  t.equal((await send('HEAD', `/v2/${name}/manifests/v1`, { accept: MANIFEST_TYPES })).status, 404);
  const tagged = await send(
    'PUT',
    `/v2/${name}/manifests/v1`,
    { 'content-type': OCI_MANIFEST },
    image.manifest.bytes,
  );
  t.equal(tagged.status, 201);
}

async function containerdPull(
  t: Test,
  { send }: Session,
  name: string,
  image: Image,
  ns: string,
): Promise<void> {
  const head = await send('HEAD', `/v2/${name}/manifests/v1${ns}`, { accept: MANIFEST_TYPES });
  t.equal(head.status, 200);
  t.equal(head.headers['docker-content-digest'], image.manifest.digest);
  const type = String(head.headers['content-type']);
  const got = await send('GET', `/v2/${name}/manifests/${image.manifest.digest}${ns}`, {
    accept: `${type}, */*`,
    'accept-encoding': 'gzip',
  });
  t.ok(got.bytes.equals(image.manifest.bytes));
  t.equal(got.headers['content-encoding'], undefined);
  const blobs = await Promise.all(
    [image.config, ...image.layers].map(({ digest }) =>
      send('GET', `/v2/${name}/blobs/${digest}${ns}`, { accept: '*/*', 'accept-encoding': 'gzip' }),
    ),
  );
  for (const [index, blob] of [image.config, ...image.layers].entries())
    t.equal(digestOf(blobs[index]!.bytes), blob.digest);
}

t.test('containerd pushes and pulls', async (t) => {
  await using cluster = await start(t);
  const clients = session(cluster);
  const image = newImage();
  await containerdPush(t, clients, 't/python', image);
  await containerdPull(t, clients, 't/python', image, '');
  await containerdPull(t, clients, 't/python', image, '?ns=local');
  const resumed = await clients.send('GET', `/v2/t/python/blobs/${image.layers[0]!.digest}`, {
    range: 'bytes=1048576-',
  });
  t.equal(resumed.status, 206);
  t.ok(resumed.bytes.equals(image.layers[0]!.bytes.subarray(1048576)));
});

t.test('docker pushes and pulls', async (t) => {
  await using cluster = await start(t);
  const { send } = session(cluster);
  const image = newImage();
  const name = 't/python';
  t.equal((await send('GET', '/v2/')).status, 200);
  for (const blob of [...image.layers, image.config]) {
    t.equal((await send('HEAD', `/v2/${name}/blobs/${blob.digest}`)).status, 404);
    const mount = `from=t%2Fother&mount=${encodeURIComponent(blob.digest)}`;
    t.equal((await send('POST', `/v2/${name}/blobs/uploads/?${mount}`)).status, 202);
    const begun = await send('POST', `/v2/${name}/blobs/uploads/`);
    const half = Math.floor(blob.bytes.length / 2);
    const body = Readable.from([blob.bytes.subarray(0, half), blob.bytes.subarray(half)]);
    const patched = await send('PATCH', String(begun.headers.location), {}, body);
    t.equal(patched.status, 202);
    t.equal((await send('PUT', withDigest(patched.headers.location, blob.digest))).status, 201);
    t.equal((await send('HEAD', `/v2/${name}/blobs/${blob.digest}`)).status, 200);
  }
  t.equal(
    (await send('PUT', `/v2/${name}/manifests/v2s2`, { 'content-type': OCI_MANIFEST }, image.manifest.bytes))
      .status,
    201,
  );
  const mounted = await send(
    'POST',
    `/v2/t/copy/blobs/uploads/?from=t%2Fpython&mount=${encodeURIComponent(image.config.digest)}`,
  );
  t.equal(mounted.status, 201, 'a second repository mounts');
  t.equal((await send('HEAD', `/v2/t/copy/blobs/${image.config.digest}`)).status, 200);
  const accepts = MANIFEST_TYPES.split(', ');
  t.equal(
    (await send('HEAD', `/v2/${name}/manifests/v2s2`, { accept: accepts.toReversed().join(', ') })).status,
    200,
  );
  const got = await send('GET', `/v2/${name}/manifests/${image.manifest.digest}`, {
    accept: accepts.join(', '),
  });
  t.ok(got.bytes.equals(image.manifest.bytes));
  for (const blob of [image.config, ...image.layers])
    t.equal(digestOf((await send('GET', `/v2/${name}/blobs/${blob.digest}`)).bytes), blob.digest);
  const missing = await send('HEAD', `/v2/${name}/manifests/nope`);
  t.equal(missing.status, 404);
  t.equal(missing.bytes.length, 0);
});

t.test('skopeo pushes, pulls and lists', async (t) => {
  await using cluster = await start(t);
  const { send } = session(cluster);
  const image = newImage();
  const name = 'team/app';
  t.equal((await send('GET', '/v2/')).status, 200);
  for (const blob of [...image.layers, image.config]) {
    t.equal((await send('HEAD', `/v2/${name}/blobs/${blob.digest}`)).status, 404);
    t.equal((await send('HEAD', `/v2/remembered/elsewhere/blobs/${blob.digest}`)).status, 404);
    const begun = await send('POST', `/v2/${name}/blobs/uploads/`);
    const headers = { 'content-type': 'application/octet-stream' };
    const patched = await send('PATCH', String(begun.headers.location), headers, blob.bytes);
    t.equal(patched.status, 202);
    t.equal((await send('PUT', withDigest(patched.headers.location, blob.digest))).status, 201);
  }
  t.equal(
    (await send('PUT', `/v2/${name}/manifests/v1`, { 'content-type': OCI_MANIFEST }, image.manifest.bytes))
      .status,
    201,
  );
  const got = await send('GET', `/v2/${name}/manifests/v1`, { accept: MANIFEST_TYPES });
  t.ok(got.bytes.equals(image.manifest.bytes));
  t.same(JSON.parse((await send('GET', `/v2/${name}/tags/list`)).text).tags, ['v1']);
  t.equal((await send('DELETE', `/v2/${name}/manifests/${image.manifest.digest}`)).status, 202);
});

t.test('Harbor replicates, in chunks too', async (t) => {
  await using cluster = await start(t);
  const { send } = session(cluster);
  const image = newImage();
  const name = 'library/app';
  for (const blob of [image.config, ...image.layers]) {
    t.equal((await send('HEAD', `/v2/${name}/blobs/${blob.digest}`)).status, 404);
    let { location } = (await send('POST', `/v2/${name}/blobs/uploads/`, { 'content-length': '0' })).headers;
    const chunk = 500_000;
    for (let from = 0; from < blob.bytes.length; from += chunk) {
      const bytes = blob.bytes.subarray(from, from + chunk);
      const headers = { 'content-range': `${from}-${from + bytes.length - 1}` };
      const isLast = from + chunk >= blob.bytes.length;
      const answer = await send(
        isLast ? 'PUT' : 'PATCH',
        isLast ? withDigest(location, blob.digest) : String(location),
        headers,
        bytes,
      );
      t.equal(answer.status, isLast ? 201 : 202);
      location = answer.headers.location;
    }
    t.equal(
      digestOf(
        (await send('GET', `/v2/${name}/blobs/${blob.digest}`, { 'accept-encoding': 'identity' })).bytes,
      ),
      blob.digest,
    );
  }
  t.equal(
    (
      await send(
        'PUT',
        `/v2/${name}/manifests/${image.manifest.digest}`,
        { 'content-type': OCI_MANIFEST },
        image.manifest.bytes,
      )
    ).status,
    201,
  );
});
