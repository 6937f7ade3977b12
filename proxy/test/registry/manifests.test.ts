import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { digestOf } from '@sepia/base/digest';
import { OCI_MANIFEST } from '@sepia/oci/manifest';
import t, { type Test } from 'tap';
import {
  type Answer,
  ask,
  type Content,
  contentOf,
  manifestOf,
  pushBlob,
  randomContent,
} from '../support/client.ts';
import { type FakeCluster, startCluster } from '../support/fake-cluster.ts';

interface Image {
  readonly cluster: FakeCluster;
  readonly url: string;
  readonly config: Content;
  readonly layer: Content;
  readonly manifest: Content;
}

async function image(t: Test, options: Parameters<typeof startCluster>[1] = {}): Promise<Image> {
  const cluster = await startCluster(t, options);
  const { url } = cluster.proxies[0]!;
  const [config, layer] = [contentOf(Buffer.from('{"a":1}')), randomContent(5000)];
  for (const blob of [config, layer]) t.equal((await pushBlob(url, 'app', blob)).status, 201);
  return { cluster, url, config, layer, manifest: manifestOf(config, [layer]) };
}

function put(url: string, reference: string, content: Content, type = OCI_MANIFEST): Promise<Answer> {
  return ask(`${url}/v2/app/manifests/${reference}`, 'PUT', {
    headers: { 'content-type': type },
    body: content.bytes,
  });
}

t.test('a pushed manifest is read by tag and digest, byte for byte', async (t) => {
  const { url, manifest } = await image(t, { proxies: 2 });
  const done = await put(url, 'v1', manifest);
  t.equal(done.status, 201);
  t.equal(done.headers['docker-content-digest'], manifest.digest);
  t.equal(done.headers.location, `/v2/app/manifests/${manifest.digest}`);
  t.equal(done.headers['content-length'], '0');
  for (const reference of ['v1', manifest.digest]) {
    for (const method of ['GET', 'HEAD']) {
      const answer = await ask(`${url}/v2/app/manifests/${reference}`, method);
      t.equal(answer.status, 200, `${method} ${reference}`);
      t.equal(answer.headers['content-type'], OCI_MANIFEST, `${method} ${reference}`);
      t.equal(answer.headers['content-length'], String(manifest.bytes.length), `${method} ${reference}`);
      t.equal(answer.headers['docker-content-digest'], manifest.digest, `${method} ${reference}`);
      t.ok(
        answer.bytes.equals(method === 'GET' ? manifest.bytes : Buffer.alloc(0)),
        `${method} ${reference}`,
      );
    }
  }
});

t.test('a tag is asked for each time, a digest comes from memory under its own repository', async (t) => {
  const { cluster, manifest, config, layer } = await image(t, { proxies: 2 });
  const [one, two] = cluster.proxies.map((proxy) => proxy.url) as [string, string];
  await put(one, 'v1', manifest);
  t.equal((await ask(`${two}/v2/app/manifests/v1`)).headers['docker-content-digest'], manifest.digest);
  const next = manifestOf(config, [layer], { annotations: { n: '2' } });
  await put(one, 'v1', next);
  t.equal(
    (await ask(`${two}/v2/app/manifests/v1`)).headers['docker-content-digest'],
    next.digest,
    'the other proxy sees it at once',
  );
  const manifestCalls = (): number =>
    cluster.origins.flatMap((origin) => origin.calls).filter((call) => call === 'GET /v1/manifests').length;
  const before = manifestCalls();
  t.equal((await ask(`${two}/v2/app/manifests/${next.digest}`)).status, 200);
  t.equal(manifestCalls(), before, 'no origin was asked');
  t.equal(
    (await ask(`${two}/v2/other/manifests/${next.digest}`)).status,
    404,
    'not under another repository',
  );
});

t.test('what a manifest names must be there, its subject need not', async (t) => {
  const { url, config, layer } = await image(t);
  const lacking = manifestOf(config, [layer, randomContent(10)]);
  const refused = await put(url, 'v1', lacking);
  t.equal(refused.status, 400);
  t.equal(refused.code, 'MANIFEST_BLOB_UNKNOWN');
  const subject = randomContent(3).digest;
  const about = manifestOf(config, [layer], {
    subject: { mediaType: OCI_MANIFEST, digest: subject, size: 3 },
  });
  const done = await put(url, about.digest, about);
  t.equal(done.status, 201);
  t.equal(done.headers['oci-subject'], subject);
});

t.test('a manifest may be named by sha512', async (t) => {
  const { url, manifest } = await image(t);
  const digest = `sha512:${createHash('sha512').update(manifest.bytes).digest('hex')}`;
  t.equal((await put(url, digest, manifest)).status, 201);
  const got = await ask(`${url}/v2/app/manifests/${digest}`);
  t.equal(got.headers['docker-content-digest'], digest);
  t.ok(got.bytes.equals(manifest.bytes));
});

t.test('bad manifests get coded errors', async (t) => {
  const { url, manifest, config } = await image(t);
  const huge = contentOf(Buffer.alloc(4 * 1024 * 1024 + 1, 0x20));
  const cases: [string, Promise<Answer>, number, string][] = [
    ['too large', put(url, 'v1', huge), 413, 'MANIFEST_INVALID'],
    ['no JSON', put(url, 'v1', contentOf(Buffer.from('{'))), 400, 'MANIFEST_INVALID'],
    ['schema 1', put(url, 'v1', contentOf(Buffer.from('{"schemaVersion":1}'))), 400, 'MANIFEST_INVALID'],
    [
      'type differs',
      put(url, 'v1', manifest, 'application/vnd.oci.image.index.v1+json'),
      400,
      'MANIFEST_INVALID',
    ],
    ['another digest', put(url, config.digest, manifest), 400, 'DIGEST_INVALID'],
    ['bad tag', put(url, '-v1', manifest), 400, 'NAME_INVALID'],
    ['unknown tag', ask(`${url}/v2/app/manifests/nope`), 404, 'MANIFEST_UNKNOWN'],
    ['impossible tag', ask(`${url}/v2/app/manifests/.INVALID`), 404, 'MANIFEST_UNKNOWN'],
    ['unknown digest', ask(`${url}/v2/app/manifests/${randomContent(3).digest}`), 404, 'MANIFEST_UNKNOWN'],
    ['bad digest', ask(`${url}/v2/app/manifests/sha256:totallywrong`), 400, 'DIGEST_INVALID'],
    [
      'upper-case digest',
      ask(`${url}/v2/app/manifests/${manifest.digest.toUpperCase()}`),
      400,
      'DIGEST_INVALID',
    ],
    ['traversal', ask(`${url}/v2/app/..%2f..%2fx/manifests/v1`), 400, 'NAME_INVALID'],
    ['unknown ns', ask(`${url}/v2/app/manifests/v1?ns=evil.example`), 404, 'NAME_UNKNOWN'],
    ['POST', ask(`${url}/v2/app/manifests/v1`, 'POST'), 405, 'UNSUPPORTED'],
    ['long path', ask(`${url}/v2/${'a/'.repeat(5000)}b/manifests/v1`), 400, 'UNSUPPORTED'],
  ];
  for (const [what, answer, status, code] of cases) {
    const { status: found, code: foundCode } = await answer;
    t.equal(found, status, what);
    t.equal(foundCode, code, what);
  }
  const chunks = Array.from({ length: 80 }, () => Buffer.alloc(64 * 1024, 0x20));
  const streamed = await ask(`${url}/v2/app/manifests/v1`, 'PUT', {
    headers: { 'content-type': OCI_MANIFEST },
    body: Readable.from(chunks),
  });
  t.equal(streamed.status, 413, 'too large without saying so');
  t.equal((await put(url, 'v1', manifest)).status, 201, 'and still a good one is taken');
});

t.test('reads and writes go on when an origin stops', async (t) => {
  const { cluster, url, manifest } = await image(t);
  await put(url, 'v1', manifest);
  const first = cluster.origin(cluster.cluster.origins('local\napp').owners[0]!);
  first.freeze();
  const startedMs = performance.now();
  t.equal(digestOf((await ask(`${url}/v2/app/manifests/v1`)).bytes), manifest.digest);
  t.ok(performance.now() - startedMs < 10_000, `read: ${Math.round(performance.now() - startedMs)} ms`);
  const writeMs = performance.now();
  t.equal((await put(url, 'v2', manifest)).status, 201);
  t.ok(performance.now() - writeMs < 10_000, `write: ${Math.round(performance.now() - writeMs)} ms`);
});

t.test(
  'origins that hang all together are 503 for every read, long before their own deadlines',
  async (t) => {
    const { cluster, url, manifest, layer } = await image(t);
    await put(url, 'v1', manifest);
    for (const origin of cluster.origins) origin.freeze();
    const reads = ['manifests/v1', 'tags/list', `referrers/${layer.digest}`].map((path) => `app/${path}`);
    const answers = await Promise.all([...reads, '_catalog'].map((path) => ask(`${url}/v2/${path}`)));
    for (const [index, { status, code, headers }] of answers.entries()) {
      t.equal(status, 503, reads[index] ?? 'catalog');
      t.equal(code, 'UNAVAILABLE');
      t.ok(headers['retry-after'], 'and when to come again');
    }
  },
);

t.test('tags are listed in pages', async (t) => {
  const { url, manifest } = await image(t);
  for (const tag of ['c', 'a', 'e', 'b', 'd']) await put(url, tag, manifest);
  const all = await ask(`${url}/v2/app/tags/list`);
  t.same(JSON.parse(all.text), { name: 'app', tags: ['a', 'b', 'c', 'd', 'e'] });
  t.equal(all.headers.link, undefined);
  const seen: string[] = [];
  let next: string | undefined = '/v2/app/tags/list?n=2';
  for (let page = 0; next !== undefined && page < 5; page++) {
    const answer: Answer = await ask(url + next);
    seen.push(...(JSON.parse(answer.text) as { tags: string[] }).tags);
    next = /^<([^>]+)>; rel="next"$/.exec(String(answer.headers.link ?? ''))?.[1];
  }
  t.same(seen, ['a', 'b', 'c', 'd', 'e']);
  t.same(JSON.parse((await ask(`${url}/v2/app/tags/list?n=0`)).text).tags, []);
  t.same(JSON.parse((await ask(`${url}/v2/app/tags/list?last=c`)).text).tags, ['d', 'e']);
  t.equal((await ask(`${url}/v2/app/tags/list?n=x`)).status, 400);
  t.equal((await ask(`${url}/v2/nobody/tags/list`)).code, 'NAME_UNKNOWN');
});

t.test('a manifest that was deleted through a proxy is served from no memory of it', async (t) => {
  const { url, manifest } = await image(t);
  const at = `${url}/v2/app/manifests/${manifest.digest}`;
  t.equal((await put(url, manifest.digest, manifest)).status, 201);
  t.equal((await ask(at, 'GET')).status, 200);
  t.equal((await ask(at, 'DELETE')).status, 202);
  t.equal((await ask(at, 'GET')).status, 404, 'whatever origins tell members of it, and when');
});
