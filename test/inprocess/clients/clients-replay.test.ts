import { once } from 'node:events';
import { request as rawRequest } from 'node:http';
import { Readable } from 'node:stream';
import { gunzipSync, gzipSync } from 'node:zlib';
import { digestOf } from '@sepia/base/digest';
import {
  type PushedImage,
  pushUntilTaken,
  randomImage,
  sha256,
} from '@sepia/test-support/clients/registry-client';
import { type Watched, watchedGet } from '@sepia/test-support/clients/watched-get';
import { Constellation } from '@sepia/test-support/cluster/constellation';
import t from 'tap';
import { request } from 'undici';

const MIB = 1024 * 1024;
const OCI_MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
const CONTAINERD_ACCEPT =
  'application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json, ' +
  'application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, */*';
const DOCKER_TYPES = [
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.docker.distribution.manifest.v2+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
  'application/vnd.docker.distribution.manifest.v1+prettyjws',
  'application/json',
];

interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly bytes: Buffer;
}

type Method = 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';

async function ask(
  method: Method,
  url: string,
  headers: Record<string, string> = {},
  body?: Buffer | Readable,
): Promise<Answer> {
  const answer = await request(url, { method, headers, ...(body === undefined ? {} : { body }) });
  const bytes = Buffer.from(await answer.body.arrayBuffer());
  return { status: answer.statusCode, headers: answer.headers, bytes };
}

function codeOf(answer: Answer | Watched): string | undefined {
  return (JSON.parse(answer.bytes.toString('utf8')) as { errors: { code: string }[] }).errors[0]?.code;
}

t.test('recorded clients', async (t) => {
  await using cluster = await Constellation.start(t.testdir(), {
    agents: 1,
    trackers: 1,
    proxies: 2,
    upstreams: [{ name: 'local', mode: 'none', hosts: ['registry.example:5000'] }],
  });
  const agent = cluster.agents[0]!.url;
  const [proxy, otherProxy] = cluster.proxyUrls as [string, string];
  const image = randomImage([3 * MIB + 11, 90_000]);
  await pushUntilTaken(() => proxy, 't/python', 'v2s2', image);
  const layer = image.layers[0]!;
  const ns = '?ns=registry.example%3A5000';

  for (const [where, base] of [
    ['agent', agent],
    ['proxy', proxy],
  ] as const) {
    await t.test(`containerd at ${where}: HEAD by tag, GET by digest, blobs`, async (t) => {
      const accept = { accept: CONTAINERD_ACCEPT, 'user-agent': 'containerd/1.6.20~ds1' };
      const head = await ask('HEAD', `${base}/v2/t/python/manifests/v2s2${ns}`, accept);
      t.equal(head.status, 200);
      t.equal(head.headers['docker-content-digest'], image.manifestDigest);
      t.equal(head.headers['content-type'], OCI_MANIFEST);
      t.equal(head.headers['content-length'], String(image.manifest.length));
      t.equal(head.bytes.length, 0);
      const get = await ask('GET', `${base}/v2/t/python/manifests/${image.manifestDigest}${ns}`, {
        accept: `${OCI_MANIFEST}, */*`,
        'accept-encoding': 'gzip',
      });
      t.ok(get.bytes.equals(image.manifest));
      t.equal(get.headers['content-encoding'], undefined);
      const blobs = await Promise.all(
        [image.config, ...image.layers].map((one) =>
          ask('GET', `${base}/v2/t/python/blobs/${one.digest}${ns}`, {
            accept: 'application/vnd.oci.image.layer.v1.tar, */*',
            'accept-encoding': 'gzip',
          }),
        ),
      );
      for (const [at, one] of [image.config, ...image.layers].entries()) {
        t.ok(blobs[at]!.bytes.equals(one.bytes), 'the blob’s own bytes');
        t.equal(blobs[at]!.headers['content-encoding'], undefined, 'not compressed');
        t.equal(blobs[at]!.headers['content-length'], String(one.bytes.length));
      }
    });

    await t.test(`containerd at ${where}: resumes on 1 MiB multiples and elsewhere`, async (t) => {
      for (const from of [MIB, 2 * MIB, 1_234_567, layer.bytes.length - 1]) {
        const rest = await ask('GET', `${base}/v2/t/python/blobs/${layer.digest}${ns}`, {
          range: `bytes=${from}-`,
        });
        t.equal(rest.status, 206);
        t.equal(
          rest.headers['content-range'],
          `bytes ${from}-${layer.bytes.length - 1}/${layer.bytes.length}`,
        );
        t.ok(rest.bytes.equals(layer.bytes.subarray(from)));
      }
      const all = await ask('GET', `${base}/v2/t/python/blobs/${layer.digest}${ns}`, { range: 'bytes=0-' });
      t.ok(all.bytes.equals(layer.bytes));
      const beyond = await ask('GET', `${base}/v2/t/python/blobs/${layer.digest}`, {
        range: `bytes=${layer.bytes.length}-`,
      });
      t.equal(beyond.status, 416);
      t.equal(beyond.headers['content-range'], `bytes */${layer.bytes.length}`);
    });

    await t.test(`docker at ${where}: base first, Accept in any order, no Accept for blobs`, async (t) => {
      const first = await ask('GET', `${base}/v2/`);
      t.equal(first.status, 200);
      t.equal(first.headers['docker-distribution-api-version'], 'registry/2.0');
      for (const shift of [0, 2, 5]) {
        const accept = [...DOCKER_TYPES.slice(shift), ...DOCKER_TYPES.slice(0, shift)].join(', ');
        const head = await ask('HEAD', `${base}/v2/t/python/manifests/v2s2`, { accept });
        t.equal(head.headers['docker-content-digest'], image.manifestDigest);
        const get = await ask('GET', `${base}/v2/t/python/manifests/${image.manifestDigest}`, { accept });
        t.ok(get.bytes.equals(image.manifest));
      }
      const raw = rawRequest(`${base}/v2/t/python/blobs/${image.config.digest}`).end();
      const [answer] = (await once(raw, 'response')) as [import('node:http').IncomingMessage];
      t.equal(answer.statusCode, 200);
      t.ok(Buffer.concat(await answer.toArray()).equals(image.config.bytes));
      const missing = await ask('HEAD', `${base}/v2/t/python/manifests/nosuch`);
      t.equal(missing.status, 404);
      t.equal(codeOf(await ask('GET', `${base}/v2/t/python/manifests/nosuch`)), 'MANIFEST_UNKNOWN');
    });

    await t.test(`${where}: facts of an answer, conditions, error bodies`, async (t) => {
      const url = `${base}/v2/t/python/blobs/${layer.digest}`;
      const whole = await watchedGet(url);
      t.equal(whole.headers['accept-ranges'], 'bytes');
      t.equal(whole.headers['content-type'], 'application/octet-stream');
      t.equal(whole.headers['docker-content-digest'], layer.digest);
      t.equal(whole.headers.etag, `"${layer.digest}"`);
      t.match(whole.headers['cache-control'], /max-age=31536000/);
      const not = await ask('GET', url, { 'if-none-match': `"${layer.digest}"` });
      t.equal(not.status, 304);
      t.equal(not.bytes.length, 0);
      const manifest = `${base}/v2/t/python/manifests/v2s2`;
      t.equal((await ask('GET', manifest, { 'if-none-match': `"${image.manifestDigest}"` })).status, 304);
      t.equal((await ask('GET', manifest)).status, 200, 'no Accept at all');
      const head = await ask('HEAD', url);
      t.equal(head.headers['content-length'], String(layer.bytes.length));
      for (const [path, status, code] of [
        [`t/python/blobs/sha256:${'1'.repeat(64)}`, 404, 'BLOB_UNKNOWN'],
        ['t/python/blobs/sha256:xyz', 400, 'DIGEST_INVALID'],
        ['T/Python/manifests/v1', 400, 'NAME_INVALID'],
        [`t/python/manifests/sha256:${'1'.repeat(64)}`, 404, 'MANIFEST_UNKNOWN'],
        [`other/repo/blobs/${layer.digest}`, 404, 'BLOB_UNKNOWN'],
      ] as const) {
        const answer = await watchedGet(`${base}/v2/${path}`);
        t.equal(answer.status, status, path);
        t.equal(codeOf(answer), code, path);
      }
      const unknown = await watchedGet(`${base}/v2/t/python/manifests/v2s2?ns=elsewhere.example`);
      t.equal(unknown.status, 404);
      t.equal(codeOf(unknown), 'NAME_UNKNOWN');
    });

    await t.test(`skopeo at ${where}: GET by tag, tags/list, looks into other repositories`, async (t) => {
      const accept = DOCKER_TYPES.slice().reverse().join(', ');
      const get = await ask('GET', `${base}/v2/t/python/manifests/v2s2`, { accept });
      t.ok(get.bytes.equals(image.manifest));
      const tags = JSON.parse(
        (await ask('GET', `${base}/v2/t/python/tags/list`)).bytes.toString('utf8'),
      ) as unknown;
      t.match(tags, { name: 't/python', tags: ['v2s2'] });
      const startedMs = performance.now();
      const other = await ask('HEAD', `${base}/v2/some/other/blobs/${layer.digest}`);
      t.equal(other.status, 404);
      t.ok(performance.now() - startedMs < 10_000, 'told without waiting for anybody');
    });
  }

  await t.test('docker pushes at an agent: 405 that names the proxy', async (t) => {
    for (const [method, path] of [
      ['POST', 't/python/blobs/uploads/'],
      ['PUT', 't/python/manifests/v9'],
      ['PATCH', 't/python/blobs/uploads/abc'],
      ['DELETE', 't/python/manifests/v2s2'],
    ] as const) {
      const answer = await ask(method, `${agent}/v2/${path}`);
      t.equal(answer.status, 405, path);
      t.equal(codeOf(answer), 'UNSUPPORTED');
      t.match(answer.bytes.toString('utf8'), proxy);
    }
  });

  await t.test('docker push: HEAD, POST, chunked PATCH without length, empty PUT, HEAD; mount', async (t) => {
    const other: PushedImage = randomImage([MIB + 5]);
    const bytes = other.layers[0]!.bytes;
    const { digest } = other.layers[0]!;
    t.equal((await ask('HEAD', `${proxy}/v2/t/push/blobs/${digest}`)).status, 404);
    const begun = await ask('POST', `${proxy}/v2/t/push/blobs/uploads/`);
    t.equal(begun.status, 202);
    const location = new URL(String(begun.headers['location']), proxy);
    const pieces = Readable.from([bytes.subarray(0, 100_000), bytes.subarray(100_000)]);
    const patched = await ask('PATCH', location.href, { 'content-type': 'application/octet-stream' }, pieces);
    t.equal(patched.status, 202);
    t.equal(patched.headers['range'], `0-${bytes.length - 1}`);
    const end = new URL(String(patched.headers['location']), otherProxy);
    end.searchParams.set('digest', digest);
    const put = await ask('PUT', end.href, {}, Buffer.alloc(0));
    t.equal(put.status, 201);
    t.equal(put.headers['docker-content-digest'], digest);
    t.equal((await ask('HEAD', `${otherProxy}/v2/t/push/blobs/${digest}`)).status, 200);
    const mounted = await ask(
      'POST',
      `${proxy}/v2/t/mounted/blobs/uploads/?from=t%2Fpush&mount=${encodeURIComponent(digest)}`,
    );
    t.equal(mounted.status, 201);
    t.equal((await ask('HEAD', `${otherProxy}/v2/t/mounted/blobs/${digest}`)).status, 200);
    const elsewhere = await ask(
      'POST',
      `${proxy}/v2/t/third/blobs/uploads/?from=t%2Fnothing&mount=${encodeURIComponent(digest)}`,
    );
    t.equal(elsewhere.status, 202, 'nothing to mount: an upload begins');
  });

  await t.test('ctr push: one PUT that carries the whole body', async (t) => {
    const bytes = randomImage([2 * MIB + 1]).layers[0]!.bytes;
    const digest = sha256(bytes);
    const begun = await ask('POST', `${proxy}/v2/t/ctr/blobs/uploads/`);
    const end = new URL(String(begun.headers['location']), proxy);
    end.searchParams.set('digest', digest);
    const put = await ask('PUT', end.href, { 'content-type': 'application/octet-stream' }, bytes);
    t.equal(put.status, 201);
    const got = await ask('GET', `${otherProxy}/v2/t/ctr/blobs/${digest}`);
    t.ok(got.bytes.equals(bytes));
  });

  await t.test('skopeo push: gzip layers are bytes like any other; wrong digest is refused', async (t) => {
    const bytes = gzipSync(Buffer.alloc(300_000, 'layer'));
    const begun = await ask('POST', `${proxy}/v2/t/skopeo/blobs/uploads/`);
    const patched = await ask(
      'PATCH',
      new URL(String(begun.headers['location']), proxy).href,
      { 'content-type': 'application/octet-stream' },
      bytes,
    );
    const end = new URL(String(patched.headers['location']), proxy);
    end.searchParams.set('digest', `sha256:${'2'.repeat(64)}`);
    const wrong = await ask('PUT', end.href);
    t.equal(wrong.status, 400);
    t.equal(codeOf(wrong), 'DIGEST_INVALID');
    const again = await ask('POST', `${proxy}/v2/t/skopeo/blobs/uploads/`);
    const put = new URL(String(again.headers['location']), proxy);
    const digest = digestOf(bytes);
    put.searchParams.set('digest', digest);
    t.equal((await ask('PUT', put.href, {}, bytes)).status, 201);
    const got = await ask('GET', `${proxy}/v2/t/skopeo/blobs/${digest}`, { 'accept-encoding': 'gzip' });
    t.equal(gunzipSync(got.bytes).length, 300_000);
  });
});
