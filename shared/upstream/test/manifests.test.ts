import { setTimeout as delay } from 'node:timers/promises';
import { digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { MANIFEST_ACCEPT, MAX_MANIFEST_BYTES, OCI_MANIFEST } from '@sepia/oci/manifest';
import { type Misbehaviour, makeImage, makeIndex } from '@sepia/test-support/upstream/fake-upstream';
import t from 'tap';
import { headOrGet } from '../src/client-setup.ts';
import type { Answer } from '../src/exchange.ts';
import { isUnasked } from '../src/failure.ts';
import { checkManifest } from '../src/manifest-check.ts';
import {
  clientOf,
  failure,
  reference,
  REPOSITORY as repository,
  soon,
  startUpstream,
} from './client-fixture.ts';

const ARTIFACT = 'application/vnd.oci.artifact.manifest.v1+json';
const DOCKER = 'application/vnd.docker.distribution.manifest.';

for (const type of ['oci', 'docker'] as const) {
  t.test(`${type} manifests come by tag and by digest, whole and with their type`, async (t) => {
    const upstream = await startUpstream(t);
    const index = makeIndex({ layers: [100], seed: 1, type });
    upstream.push(repository, index, 'v1');
    const client = clientOf(t, upstream.url);
    const byTag = await client.getManifest({ repository, reference: reference('v1') }, soon());
    t.same(byTag.bytes, index.manifest.bytes);
    t.equal(byTag.digest, index.manifest.digest);
    t.equal(byTag.mediaType, index.manifest.mediaType);
    const child = index.images[1]!.manifest;
    const byDigest = await client.getManifest({ repository, reference: reference(child.digest) }, soon());
    t.same(byDigest.bytes, child.bytes);
    t.equal(byDigest.mediaType, child.mediaType);
    t.ok(
      upstream.log.every((entry) => entry.accept === MANIFEST_ACCEPT),
      'the full Accept list is always sent',
    );
  });
}

t.test('a manifest that is still the one we have is not sent again', async (t) => {
  const upstream = await startUpstream(t);
  const image = makeImage({ layers: [10], seed: 1 });
  const digest = upstream.push(repository, image, 'v1');
  const client = clientOf(t, upstream.url);
  t.equal(
    await client.getManifest({ repository, reference: reference('v1'), ifDigest: digest }, soon()),
    undefined,
  );
  const other = await client.getManifest(
    { repository, reference: reference('v1'), ifDigest: digestOf(Buffer.from('other')) },
    soon(),
  );
  t.equal(other?.digest, digest);
});

t.test('HEAD tells digest, type and size', async (t) => {
  const upstream = await startUpstream(t);
  const image = makeImage({ layers: [10], seed: 1 });
  const digest = upstream.push(repository, image, 'v1');
  const head = await clientOf(t, upstream.url).headManifest(
    { repository, reference: reference('v1') },
    soon(),
  );
  t.same(head, { digest, mediaType: OCI_MANIFEST, sizeBytes: image.manifest.bytes.length });
  t.equal(upstream.requests('manifest', 'GET').length, 0);
});

t.test('where HEAD fails or tells no digest, GET answers', async (t) => {
  for (const does of [
    { type: 'status', status: 405 },
    { type: 'status', status: 500, headers: { 'retry-after': '30' } },
    { type: 'status', status: 204 },
    { type: 'no-digest' },
    { type: 'wrong-digest', digest: 'sha256:short' },
  ] as const) {
    const upstream = await startUpstream(t);
    const image = makeImage({ layers: [10], seed: 1 });
    const digest = upstream.push(repository, image, 'v1');
    upstream.misbehave({ kind: 'manifest', method: 'HEAD', does });
    const head = await clientOf(t, upstream.url).headManifest(
      { repository, reference: reference('v1') },
      soon(),
    );
    t.same(head, { digest, mediaType: OCI_MANIFEST, sizeBytes: image.manifest.bytes.length }, does.type);
    t.equal(upstream.requests('manifest', 'GET').length, 1, does.type);
  }
});

t.test('where HEAD is never answered GET is asked beside it, and its word counts', async (t) => {
  const upstream = await startUpstream(t);
  const digest = upstream.push(repository, makeImage({ layers: [10], seed: 1 }), 'v1');
  upstream.misbehave({ kind: 'manifest', method: 'HEAD', does: { type: 'silent' } });
  const client = clientOf(t, upstream.url);
  const head = async (tag: string) =>
    await client.headManifest({ repository, reference: reference(tag) }, soon());
  t.match(await head('v1'), { digest });
  await failure(head('none'), 'MANIFEST_UNKNOWN');
  const late = AbortSignal.timeout(1);
  await t.rejects(client.headManifest({ repository, reference: reference('v1') }, late), {
    name: 'TimeoutError',
  });
});

t.test('a GET beside a slow HEAD that is limited leaves the answer to HEAD', async (t) => {
  const got = Promise.withResolvers<void>();
  let heads = 0;
  const limited = new CodedError('UPSTREAM_LIMITED');
  const head = headOrGet(
    {
      head: async (_signal, waiting) => {
        heads += 1;
        waiting(true);
        await got.promise;
        await new Promise(setImmediate);
        waiting(false);
        return 'head';
      },
      get: () => {
        got.resolve();
        return Promise.reject(limited);
      },
    },
    soon(),
    1,
  );
  t.equal(await head, 'head');
  t.equal(heads, 1);
  for (const error of [new CodedError('BACKEND_DOWN', { detail: { status: 500 } }), undefined]) {
    const late = Promise.withResolvers<void>();
    const both = headOrGet(
      {
        head: async (_signal, waiting) => {
          waiting(true);
          await late.promise;
          await new Promise(setImmediate);
          if (error !== undefined) throw error;
        },
        get: () => {
          late.resolve();
          return Promise.reject(limited);
        },
      },
      soon(),
      1,
    );
    t.equal(await both.catch((one: unknown) => one), limited, 'what GET says where HEAD helps nobody');
  }
});

t.test('a HEAD that waits for its turn, or for a token, is no reason for a GET beside it', async (t) => {
  let gets = 0;
  const found = await headOrGet(
    {
      head: async (_signal, waiting) => {
        await delay(20);
        waiting(true);
        waiting(false);
        await delay(20);
        return 'head';
      },
      get: () => {
        gets += 1;
        return Promise.resolve('get');
      },
    },
    soon(),
    1,
  );
  t.equal(found, 'head');
  t.equal(gets, 0);
});

t.test(
  'a gateway that fails once is asked once more, unless it says when or a password is shown',
  async (t) => {
    const upstream = await startUpstream(t);
    const image = makeImage({ layers: [10], seed: 1 });
    const digest = upstream.push(repository, image, 'v1');
    const client = clientOf(t, upstream.url);
    const query = { repository, reference: reference('v1') };
    const blob = { repository, digest: image.layers[0]! };
    for (const status of [502, 503, 504]) {
      upstream.misbehave({ times: 1, does: { type: 'status', status } });
      t.equal((await client.getManifest(query, soon())).digest, digest, String(status));
      upstream.misbehave({ times: 1, does: { type: 'status', status } });
      t.same(await client.headBlob(blob, soon()), { sizeBytes: 10 }, String(status));
    }
    const asked = async (run: () => Promise<unknown>, does: Misbehaviour): Promise<number> => {
      upstream.log.length = 0;
      const undo = upstream.misbehave({ does });
      await failure(run(), 'BACKEND_DOWN');
      undo();
      return upstream.log.length;
    };
    const get = (): Promise<unknown> => client.getManifest(query, soon());
    t.equal(await asked(get, { type: 'status', status: 502 }), 2, 'twice, and no more');
    t.equal(await asked(get, { type: 'status', status: 503, headers: { 'retry-after': '9' } }), 1);
    t.equal(await asked(get, { type: 'status', status: 500 }), 1, 'the registry itself');
    t.equal(await asked(() => client.getBlob(blob, soon()), { type: 'status', status: 502 }), 1, 'a body');
    const brought = client.as('Basic YTpi');
    t.equal(
      await asked(() => brought.getManifest(query, soon()), { type: 'status', status: 502 }),
      1,
      'password',
    );
  },
);

t.test('wrong bytes are never handed on', async (t) => {
  const upstream = await startUpstream(t);
  const image = makeImage({ layers: [10], seed: 1 });
  const digest = upstream.push(repository, image, 'v1');
  upstream.misbehave({ kind: 'manifest', does: { type: 'lie' } });
  const client = clientOf(t, upstream.url);
  for (const wanted of ['v1', digest]) {
    const error = await failure(
      client.getManifest({ repository, reference: reference(wanted) }, soon()),
      'UPSTREAM_LIES',
    );
    t.equal(error.detail['expected'], digest, wanted);
  }
});

t.test('a HEAD by digest that announces another digest is a lie', async (t) => {
  const upstream = await startUpstream(t);
  const digest = upstream.push(repository, makeImage({ layers: [10], seed: 1 }));
  upstream.misbehave({ does: { type: 'wrong-digest', digest: digestOf(Buffer.from('x')) } });
  await failure(
    clientOf(t, upstream.url).headManifest({ repository, reference: reference(digest) }, soon()),
    'UPSTREAM_LIES',
  );
});

t.test(
  'a tag that leads to something else than a manifest is refused, a digest vouches for itself',
  async (t) => {
    const upstream = await startUpstream(t);
    const login = {
      bytes: Buffer.from('<html>please log in</html>'),
      mediaType: OCI_MANIFEST,
      digest: digestOf(Buffer.from('<html>please log in</html>')),
    };
    upstream.addManifest(repository, login, 'v1');
    const client = clientOf(t, upstream.url);
    const error = await failure(
      client.getManifest({ repository, reference: reference('v1') }, soon()),
      'UPSTREAM_LIES',
    );
    t.match(error.message, /no manifest/);
    t.same(
      (await client.getManifest({ repository, reference: reference(login.digest) }, soon())).bytes,
      login.bytes,
    );
  },
);

t.test('what an upstream holds is handed on with its type to the letter', async (t) => {
  const odd = 'application/vnd.Example.thing.v1+json';
  const kinds: [string, object, string | undefined, string][] = [
    ['odd', { schemaVersion: 2 }, odd, odd],
    ['with parameters', { schemaVersion: 2 }, `${odd}; charset=utf-8`, odd],
    ['untyped', { schemaVersion: 2 }, 'text/plain', OCI_MANIFEST],
    ['without type', { schemaVersion: 2 }, undefined, OCI_MANIFEST],
    ['no type at all', { schemaVersion: 2 }, 'x'.repeat(20_000), OCI_MANIFEST],
    ['schema 1', { schemaVersion: 1 }, `${DOCKER}v1+prettyjws`, `${DOCKER}v1+prettyjws`],
    ['artifact', { mediaType: ARTIFACT }, ARTIFACT, ARTIFACT],
    ['inside', { schemaVersion: 2, mediaType: 'a/b' }, 'application/octet-stream', 'a/b'],
  ];
  for (const [name, value, said, expected] of kinds) {
    const bytes = Buffer.from(JSON.stringify(value));
    const answer = { status: 200, url: new URL('http://up.test/'), headers: { 'content-type': said } };
    const query = { repository, reference: reference('v1') };
    const found = checkManifest('up', query, answer as unknown as Answer, bytes);
    t.match(found, { bytes, mediaType: expected }, name);
  }
});

t.test('a manifest above 4 MiB is cut off, one of exactly 4 MiB passes', async (t) => {
  const upstream = await startUpstream(t);
  for (const extra of [0, 1]) {
    const head = '{"schemaVersion":2,"pad":"';
    const bytes = Buffer.from(`${head}${'x'.repeat(MAX_MANIFEST_BYTES + extra - head.length - 2)}"}`);
    upstream.addManifest(
      repository,
      { bytes, mediaType: OCI_MANIFEST, digest: digestOf(bytes) },
      `big${extra}`,
    );
  }
  const client = clientOf(t, upstream.url);
  t.equal(
    (await client.getManifest({ repository, reference: reference('big0') }, soon())).bytes.length,
    MAX_MANIFEST_BYTES,
  );
  await failure(client.getManifest({ repository, reference: reference('big1') }, soon()), 'UPSTREAM_LIES');
  t.equal(MAX_MANIFEST_BYTES, 4 * 1024 * 1024);
});

t.test('tags come page by page', async (t) => {
  const upstream = await startUpstream(t, { tagPage: 2 });
  const image = makeImage({ layers: [10], seed: 1 });
  upstream.push(repository, image, 'a', 'b', 'c+d'.replace('+', '.'), 'e', 'f');
  const client = clientOf(t, upstream.url);
  const pages: string[][] = [];
  let page: string | undefined;
  do {
    const answer = await client.listTags({ repository, page }, soon());
    pages.push([...answer.tags]);
    page = answer.next;
  } while (page !== undefined);
  t.same(pages, [['a', 'b'], ['c.d', 'e'], ['f']]);
  t.same(await client.listTags({ repository, n: 4 }, soon()), {
    tags: ['a', 'b', 'c.d', 'e'],
    next: 'last=e&n=4',
  });
});

t.test('a registry that is asked for too many tags is asked for as many as it sends', async (t) => {
  for (const status of [400, 413]) {
    const upstream = await startUpstream(t, { tagPage: 2 });
    upstream.push(repository, makeImage({ layers: [10], seed: 1 }), 'a', 'b', 'c');
    upstream.misbehave({ kind: 'tags', times: 1, does: { type: 'status', status } });
    const client = clientOf(t, upstream.url);
    t.same(await client.listTags({ repository, n: 1000 }, soon()), { tags: ['a', 'b'], next: 'last=b&n=2' });
    upstream.misbehave({ kind: 'tags', does: { type: 'status', status } });
    await failure(client.listTags({ repository, n: 1000 }, soon()), 'UPSTREAM_DENIED');
  }
});

t.test('an unknown repository, tag or digest is certain', async (t) => {
  const upstream = await startUpstream(t);
  upstream.push(repository, makeImage({ layers: [10], seed: 1 }), 'v1');
  const client = clientOf(t, upstream.url);
  await failure(client.getManifest({ repository, reference: reference('v2') }, soon()), 'MANIFEST_UNKNOWN');
  await failure(
    client.headManifest({ repository, reference: reference(digestOf(Buffer.from('no'))) }, soon()),
    'MANIFEST_UNKNOWN',
  );
  const other = 'library/other' as typeof repository;
  await failure(client.listTags({ repository: other }, soon()), 'REPOSITORY_UNKNOWN');
});

t.test('where there is nobody to ask it as, that is no word of the registry', async (t) => {
  const upstream = await startUpstream(t);
  upstream.push(repository, makeImage({ layers: [10], seed: 1 }), 'v1');
  const V1 = { repository, reference: reference('v1') };
  const unasked = clientOf(t, upstream.url, { async *names() {} });
  const error = await failure(unasked.headManifest(V1, soon()), 'UPSTREAM_DENIED');
  t.ok(isUnasked(error));
  upstream.misbehave({ kind: 'manifest', does: { type: 'status', status: 403 } });
  const refused = clientOf(t, upstream.url);
  t.notOk(isUnasked(await failure(refused.headManifest(V1, soon()), 'UPSTREAM_DENIED')));
});
