import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { type Digest, digestHex, digestOf } from '@sepia/base/digest';
import { OCI_ARTIFACT, OCI_INDEX, ORAS_ARTIFACT } from '@sepia/oci/manifest';
import t, { type Test } from 'tap';
import type { TestCluster } from '../support/cluster.ts';
import { bytesOf, collect, copies, fileIn, pull, push, REPOSITORY, setUp, until, written } from './bed.ts';

const OCI_MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
const OWN = 'application/vnd.example.thing.v1+json';

interface Entry {
  readonly mediaType?: string;
  readonly digest: Digest;
  readonly size: number;
}

/** Blobs of a manifest that were pushed, each of its own bytes. */
class Kind {
  readonly bytes: Buffer[] = [];
  readonly #c: TestCluster;
  readonly #seed: number;

  constructor(c: TestCluster, seed: number) {
    this.#c = c;
    this.#seed = seed;
  }

  async blob(): Promise<Entry> {
    const bytes = bytesOf(3_000 + this.bytes.length, this.#seed * 10 + this.bytes.length);
    this.bytes.push(bytes);
    const entry = { digest: await push(this.#c, bytes), size: bytes.length };
    return { mediaType: 'application/octet-stream', ...entry };
  }

  async manifest(reference: string | undefined, body: object, type: string): Promise<Entry> {
    const bytes = Buffer.from(JSON.stringify(body));
    const digest = digestOf(bytes);
    const path = `/v1/manifests?upstream=local&repository=${REPOSITORY}&reference=${reference ?? digest}`;
    await until(async () => {
      const put = await this.#c.put(this.#c.ids[0]!, path, bytes, { 'content-type': type });
      if (put.status !== 201 && put.status !== 503) throw new Error(`manifest: ${put.status} ${put.bytes}`);
      return put.status === 201;
    }, 'the manifest is taken');
    return { mediaType: type, digest, size: bytes.length };
  }
}

/** Each is tagged, or leads from what is, and names blobs that nothing else does. */
const KINDS: Readonly<Record<string, (kind: Kind) => Promise<Entry>>> = {
  'an artifact manifest': async (kind) =>
    await kind.manifest(
      'artifact',
      { mediaType: OCI_ARTIFACT, artifactType: 'a/b', blobs: [await kind.blob()] },
      OCI_ARTIFACT,
    ),
  'an artifact manifest as it was called before': async (kind) =>
    await kind.manifest(
      'oras',
      { mediaType: ORAS_ARTIFACT, artifactType: 'a/b', blobs: [await kind.blob()] },
      ORAS_ARTIFACT,
    ),
  'a kind of its own with layers': async (kind) =>
    await kind.manifest('own', { schemaVersion: 2, mediaType: OWN, layers: [await kind.blob()] }, OWN),
  'a kind of its own with other fields': async (kind) =>
    await kind.manifest('other', { mediaType: OWN, parts: { first: (await kind.blob()).digest } }, OWN),
  'a signature that is an artifact manifest': async (kind) => {
    const image = { schemaVersion: 2, mediaType: OCI_MANIFEST, layers: [await kind.blob()] };
    const subject = await kind.manifest('signed', image, OCI_MANIFEST);
    const blobs = [await kind.blob()];
    return await kind.manifest(undefined, { mediaType: OCI_ARTIFACT, blobs, subject }, OCI_ARTIFACT);
  },
  'an image that an index calls by no type': async (kind) => {
    const image = { schemaVersion: 2, mediaType: OCI_MANIFEST, layers: [await kind.blob()] };
    const { digest, size } = await kind.manifest(undefined, image, OCI_MANIFEST);
    const index = { schemaVersion: 2, mediaType: OCI_INDEX, manifests: [{ digest, size }] };
    await kind.manifest('untyped', index, OCI_INDEX);
    return { digest, size };
  },
  'an index of blobs of types that nobody knows': async (kind) => {
    const manifests = [{ ...(await kind.blob()), mediaType: 'application/vnd.example.part' }];
    return await kind.manifest('parts', { schemaVersion: 2, mediaType: OCI_INDEX, manifests }, OCI_INDEX);
  },
};

async function pushKinds(c: TestCluster): Promise<Map<string, { kind: Kind; manifest: Entry }>> {
  const found = new Map<string, { kind: Kind; manifest: Entry }>();
  let seed = 0;
  for (const [name, pushKind] of Object.entries(KINDS)) {
    const kind = new Kind(c, ++seed);
    found.set(name, { kind, manifest: await pushKind(kind) });
  }
  return found;
}

async function has(t: Test, c: TestCluster, name: string, digest: Digest): Promise<void> {
  const path = `/v1/manifests?upstream=local&repository=${REPOSITORY}&reference=${digest}`;
  for (const id of c.ids) {
    let answer = await c.get(id, path);
    await until(async () => {
      if (answer.status === 503) answer = await c.get(id, path);
      return answer.status !== 503;
    }, 'a manifest is answered');
    t.equal(answer.status, 200, `${name}, asked at ${id}`);
    t.equal(digestOf(answer.bytes), digest);
  }
}

/** An origin that is stopped does not have it any more. */
function forget(c: TestCluster, id: string, digest: Digest): void {
  const hex = digestHex(digest);
  for (const kind of ['blobs', 'meta'])
    rmSync(join(c.dataOf(id), 'v1', kind, 'sha256', hex.slice(0, 2), hex));
}

t.test('a collection leaves what manifests of every kind name', async (t) => {
  const { c, place } = await setUp(t, { origins: 5 });
  const kinds = await pushKinds(c);
  const dead = await push(c, bytesOf(5_000, 99));
  await until(written(c), 'all is written');
  const report = await collect(c);
  t.match(report, { phase: 'done', links: 1 });
  t.match(report.repositories, [{ repository: REPOSITORY, links: 1, left: undefined }]);
  t.notOk(existsSync(fileIn(place, dead)));
  for (const [name, { kind, manifest }] of kinds) {
    await has(t, c, name, manifest.digest);
    for (const bytes of kind.bytes) {
      t.ok(existsSync(fileIn(place, digestOf(bytes))), name);
      t.ok((await pull(c, c.ids[1]!, digestOf(bytes))).bytes.equals(bytes), name);
    }
  }
  t.match(await collect(c), { phase: 'done', links: 0 }, 'nor does the next one take any of it');
});

t.test('manifests that say what they are come back from the backend, of whatever kind', async (t) => {
  const { c } = await setUp(t);
  const kinds = await pushKinds(c);
  await until(written(c), 'all is written');
  // As if they were the oldest of all.
  for (const id of c.ids) await c.stop(id);
  for (const { manifest } of kinds.values())
    for (const id of copies(c, manifest.digest)) forget(c, id, manifest.digest);
  for (const id of c.ids) await c.start(id);
  for (const [name, { manifest }] of kinds) await has(t, c, name, manifest.digest);
});

t.test(
  'what nothing but its first push called a manifest keeps what it names, from the backend too',
  async (t) => {
    const { c, place } = await setUp(t);
    const kind = new Kind(c, 50);
    const parts = { first: (await kind.blob()).digest, rest: [(await kind.blob()).digest] };
    const { digest, size } = await kind.manifest(undefined, { parts }, OWN);
    const index = { schemaVersion: 2, mediaType: OCI_INDEX, manifests: [{ digest, size }] };
    await kind.manifest('leads', index, OCI_INDEX);
    const dead = await push(c, bytesOf(5_000, 98));
    await until(written(c), 'all is written');
    const kept = (): void => {
      for (const bytes of kind.bytes) t.ok(existsSync(fileIn(place, digestOf(bytes))), 'a part is there');
    };
    t.match(await collect(c), { phase: 'done', links: 1 });
    t.notOk(existsSync(fileIn(place, dead)));
    kept();
    for (const id of c.ids) await c.stop(id);
    for (const id of copies(c, digest)) forget(c, id, digest);
    for (const id of c.ids) await c.start(id);
    await until(written(c), 'all is known');
    t.match(await collect(c), { phase: 'done', links: 0 });
    kept();
  },
);
