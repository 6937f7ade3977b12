import { randomBytes } from 'node:crypto';
import { type Digest, digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import type { RepositoryName } from '@sepia/base/names/repository';
import { OCI_INDEX, OCI_MANIFEST } from '@sepia/oci/manifest';
import t from 'tap';
import { isNamedBelow } from '../../src/removal/named-below.ts';
import { startCluster, type TestCluster } from '../support/cluster.ts';

type Answer = Awaited<ReturnType<TestCluster['call']>>;

interface Entry {
  readonly mediaType: string;
  readonly digest: Digest;
  readonly size: number;
}

const LAYER = 'application/vnd.oci.image.layer.v1.tar';
const NAME = { upstream: 'hub', repository: 'team/app' as RepositoryName };

/** Calls of one repository, each at the next origin. */
function repositoryAt(c: TestCluster, upstream: string) {
  const query = `upstream=${upstream}&repository=team/app`;
  let at = 0;
  const call = async (method: string, path: string, rest: object = {}): Promise<Answer> =>
    await c.call(c.ids[at++ % c.ids.length]!, { method, path, ...rest } as Parameters<
      TestCluster['call']
    >[1]);
  const pushBlob = async (bytes: Buffer, mediaType = LAYER): Promise<Entry> => {
    const digest = digestOf(bytes);
    await call('PUT', `/v1/blobs/${digest}?${query}`, { body: bytes });
    return { mediaType, digest, size: bytes.length };
  };
  const push = async (reference: string | undefined, content: object, mediaType: string): Promise<Entry> => {
    const body = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType, ...content }));
    const digest = digestOf(body);
    const path = `/v1/manifests?${query}&reference=${reference ?? digest}`;
    const answer = await call('PUT', path, { body, headers: { 'content-type': mediaType } });
    if (answer.status !== 201) throw new Error(answer.bytes.toString());
    return { mediaType, digest, size: body.length };
  };
  return {
    pushBlob,
    push,
    image: async (reference: string | undefined, layers: readonly Entry[], further: object = {}) =>
      await push(reference, { config: await pushBlob(randomBytes(50)), layers, ...further }, OCI_MANIFEST),
    deleteBlob: async (digest: Digest) => await call('DELETE', `/v1/blobs/${digest}?${query}`),
    deleteManifest: async (reference: string) =>
      await call('DELETE', `/v1/manifests?${query}&reference=${reference}`),
    manifest: async (reference: string) => await call('GET', `/v1/manifests?${query}&reference=${reference}`),
    referrers: async (digest: Digest) =>
      (await call('GET', `/v1/referrers?${query}&digest=${digest}`)).bytes.toString(),
  };
}

t.test(
  'the blobs route takes no manifest, whatever type its link has, and leaves its referrers',
  async (t) => {
    const c = await startCluster(t, { origins: 3 });
    const { pushBlob, push, image, deleteBlob, manifest, referrers } = repositoryAt(c, 'local');
    const layer = await pushBlob(randomBytes(100));
    const subject = await image('v1', [layer]);
    const signature = await image(undefined, [], { subject });
    const odd = await image(undefined, [layer]);
    await push('odd', { manifests: [{ ...odd, mediaType: 'text/plain' }] }, OCI_INDEX);
    for (const { digest } of [subject, signature, odd]) {
      const refused = await deleteBlob(digest);
      t.equal(refused.status, 404);
      t.equal(refused.headers['sepia-error'], 'BLOB_UNKNOWN');
      t.match(refused.bytes.toString(), /is a manifest/);
      for (const _ of c.ids) t.equal((await manifest(digest)).status, 200);
    }
    t.match(await referrers(subject.digest), signature.digest);
    const named = await pushBlob(randomBytes(100), OCI_MANIFEST);
    await push('layers', { manifests: [named] }, OCI_INDEX);
    t.equal((await deleteBlob(named.digest)).status, 204, 'a layer that an index calls a manifest is a blob');
    const own = 'application/vnd.example.bundle+json';
    const bundle = await pushBlob(Buffer.from(JSON.stringify({ mediaType: own })), own);
    await image('signed', [bundle]);
    t.equal((await deleteBlob(bundle.digest)).status, 204, 'a layer that tells its own type is a blob');
    const tagged = await push('own', {}, own);
    t.equal((await deleteBlob(tagged.digest)).status, 404, 'what a tag points at is a manifest of any kind');
    t.equal((await deleteBlob(layer.digest)).status, 204, 'what mutable tags name may go');
    t.equal((await deleteBlob(layer.digest)).status, 404);
  },
);

t.test('what the image of an immutable tag names stays; other blobs and images go', async (t) => {
  const overrides = [{ repositories: ['team/**'], tags: ['v*'], policy: 'immutable' }];
  const c = await startCluster(t, {
    origins: 3,
    upstreams: [{ name: 'hub', mode: 'none', tags: { overrides } }],
  });
  const { pushBlob, push, image, deleteBlob, deleteManifest, manifest } = repositoryAt(c, 'hub');
  const kept = await pushBlob(randomBytes(100));
  const loose = await pushBlob(randomBytes(100));
  const child = await image(undefined, [kept]);
  await push('v1', { manifests: [child] }, OCI_INDEX);
  const other = await image('latest', [loose]);
  for (const refused of [await deleteBlob(kept.digest), await deleteManifest(child.digest)]) {
    t.equal(refused.status, 403, refused.bytes.toString());
    t.equal(refused.headers['sepia-error'], 'TAG_IMMUTABLE');
  }
  t.equal((await deleteBlob(child.digest)).headers['sepia-error'], 'BLOB_UNKNOWN');
  for (const _ of c.ids) t.equal((await manifest(child.digest)).status, 200);
  t.equal((await deleteBlob(loose.digest)).status, 204);
  t.equal((await deleteManifest(other.digest)).status, 204);
});

t.test('the search below images ends in time, and does not take silence for a no', async (t) => {
  const roots = Array.from({ length: 100 }, (_, at) => digestOf(Buffer.from(`root ${at}`)));
  const wanted = digestOf(Buffer.from('wanted'));
  const layers = [{ mediaType: LAYER, digest: wanted, size: 1 }];
  const bytesOf = (content: object): Buffer =>
    Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: OCI_MANIFEST, ...content }));
  const read = async (_: unknown, digest: Digest) => ({
    bytes: bytesOf({ layers: digest === roots.at(-1) ? layers : [] }),
  });
  t.equal(await isNamedBelow(read, NAME, roots, wanted), true, 'also below the last');
  t.equal(await isNamedBelow(read, NAME, roots.slice(0, -1), wanted), false);
  let nowMs = 0;
  const slow = async (name: unknown, digest: Digest) => {
    nowMs += 1_000;
    return await read(name, digest);
  };
  await t.rejects(
    isNamedBelow(slow, NAME, roots, wanted, () => nowMs),
    { code: 'TIMEOUT', detail: { left: 68 } },
  );
  const silent = async () => await Promise.reject(new CodedError('QUORUM_LOST'));
  await t.rejects(isNamedBelow(silent, NAME, roots, wanted), { code: 'QUORUM_LOST' });
});
