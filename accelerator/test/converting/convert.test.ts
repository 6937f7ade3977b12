import { type Digest, digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { CONVERSION_RULE, type ConversionRule } from '@sepia/cluster/conversion-rule';
import { type Document, documentOf, SOURCE_ANNOTATION } from '@sepia/lazy/convert/documents';
import type { ImageSource } from '@sepia/lazy/convert/ends';
import { LargeLayers } from '@sepia/lazy/convert/large-layers';
import { inlinePacker } from '@sepia/lazy/pack/batch';
import { OCI_INDEX, OCI_MANIFEST } from '@sepia/oci/manifest';
import { ScratchFile } from '@sepia/store/scratch/scratch';
import { fileImage } from '@sepia/test-support/clients/file-image';
import t, { type Test } from 'tap';
import { type ConvertDeps, type ConvertJob, convert } from '../../src/converting/convert.ts';
import { remove } from '../../src/converting/remove.ts';
import type { Proxies } from '../../src/net/proxies.ts';
import { Places } from '../../src/net/registry-target.ts';
import type { ResultRegistry } from '../../src/net/result-registries.ts';

const SIGNAL = new AbortController().signal;

/** Images by tag, and a registry that results go to; `onPut` is called before a manifest is stored there. */
class World {
  readonly blobs = new Map<string, Buffer>();
  readonly manifests = new Map<string, Document>();
  readonly results = new Map<string, Document>();
  onPut: (reference: string) => void = () => undefined;
  /** What the registry says of referrers and of deletes of a tag. */
  listsReferrers = true;
  deletesTags = true;

  image(tag: string, content: string): Document {
    const { blobs, manifest: json } = fileImage(content);
    for (const bytes of blobs) this.blobs.set(digestOf(bytes), bytes);
    const manifest = documentOf(json as Record<string, unknown>, OCI_MANIFEST);
    this.manifests.set(tag, manifest).set(manifest.digest, manifest);
    return manifest;
  }

  readonly source: ImageSource = {
    manifest: async (reference) => {
      const found = this.manifests.get(reference);
      if (found === undefined) throw new CodedError('MANIFEST_UNKNOWN');
      return found;
    },
    blob: async ({ digest }, take) => await take(this.blobs.get(digest)!),
  };

  readonly client = {
    host: 'registry.example',
    headManifest: async (_repository: string, reference: string) => this.results.get(reference)?.digest,
    hasBlob: async () => true,
    putManifest: async (_repository: string, reference: string, document: Document) => {
      this.onPut(reference);
      this.results.set(reference, document).set(document.digest, document);
      const { subject } = JSON.parse(document.bytes.toString()) as { subject?: { digest: string } };
      return this.listsReferrers ? subject?.digest : undefined;
    },
    deleteManifest: async (_repository: string, reference: string) => {
      const isTag = !reference.includes(':');
      if (isTag && !this.deletesTags) throw new CodedError('METHOD_UNSUPPORTED');
      const { digest } = this.results.get(reference)!;
      for (const [name, { digest: other }] of this.results)
        if (isTag ? name === reference : other === digest) this.results.delete(name);
    },
  };

  /** Descriptors of what names a digest as its subject. */
  readonly referrers = new Map<string, object[]>();

  /** As the cluster shows the result's repository. */
  readonly proxies = {
    bytes: async ({ path }: { path: string }) => {
      const reference = path.split('/').at(-1)!;
      if (path.includes('/referrers/')) {
        const manifests = this.referrers.get(reference) ?? [];
        return { bytes: Buffer.from(JSON.stringify({ manifests })), headers: {} };
      }
      if (path.includes('/tags/')) {
        const tags = [...this.results.keys()].filter((one) => !one.includes(':'));
        return { bytes: Buffer.from(JSON.stringify({ tags })), headers: {} };
      }
      const found = this.results.get(reference);
      if (found === undefined) throw new CodedError('MANIFEST_UNKNOWN');
      return { bytes: found.bytes, headers: { 'content-type': found.mediaType } };
    },
  };

  /** The digest that a result was made from. */
  madeFrom(tag: string): Digest | undefined {
    const document = this.results.get(tag);
    if (document === undefined) return undefined;
    const { annotations } = JSON.parse(document.bytes.toString()) as { annotations: Record<string, Digest> };
    return annotations[SOURCE_ANNOTATION];
  }
}

function start(t: Test, keys: object = {}) {
  const world = new World();
  const dir = t.testdir();
  const rule: ConversionRule = CONVERSION_RULE.parse({ name: 'r', from: 'u', repositories: ['**'], ...keys });
  const use = async <T>(work: (client: typeof world.client) => Promise<T>): Promise<T> =>
    await work(world.client);
  const registry = { use, places: new Places(), host: world.client.host };
  const deps: ConvertDeps = {
    proxies: world.proxies as unknown as Proxies,
    registryOf: () => registry as unknown as ResultRegistry,
    cache: { get: async () => undefined, put: async () => undefined },
    packer: inlinePacker,
    largeLayers: new LargeLayers(),
    scratch: () => ScratchFile.create(dir),
    onProgress: () => undefined,
  };
  const task = { kind: 'convert', rule: 'r', upstream: 'u', repository: 'a', tag: '1' } as const;
  const name = { repository: 'a', tag: '1-estargz' };
  const job: ConvertJob = { task, rule, name, format: 'estargz', source: world.source };
  return { world, deps, job };
}

t.test('a tag that moves before its result is in place: only the newest gets there', async (t) => {
  const { world, deps, job } = start(t);
  world.image('1', 'old');
  let newest: Document | undefined;
  const read = world.source.blob;
  const source: ImageSource = {
    ...world.source,
    blob: async (...args) => {
      newest ??= world.image('1', 'new');
      await read(...args);
    },
  };
  const placed: (string | undefined)[] = [];
  world.onPut = (reference) => void placed.push(reference);
  t.match(await convert(deps, { ...job, source }, SIGNAL), { outcome: 'converted', source: newest?.digest });
  t.same(placed, ['1-estargz'], 'the old one is never put in place');
  t.equal(world.madeFrom('1-estargz'), newest!.digest);
});

t.test('a tag that moves while its result is put in place: the newest replaces it', async (t) => {
  const { world, deps, job } = start(t);
  world.image('1', 'old');
  let newest: Document | undefined;
  world.onPut = () => {
    newest ??= world.image('1', 'new');
  };
  t.match(await convert(deps, job, SIGNAL), { outcome: 'converted', source: newest?.digest });
  t.equal(world.madeFrom('1-estargz'), newest!.digest);
});

t.test('a tag that never stands still is tried again later; one that goes is nothing to do', async (t) => {
  const { world, deps, job } = start(t);
  world.image('1', '0');
  let turns = 0;
  world.onPut = () => void world.image('1', String(++turns));
  await t.rejects(convert(deps, job, SIGNAL), { code: 'CONFLICT' });
  t.equal(turns, 3, 'bounded');
  world.onPut = () => void world.manifests.delete('1');
  t.match(await convert(deps, job, SIGNAL), { outcome: 'skipped', reason: /is gone/, isSourceGone: true });
});

t.test('a rule begins at a size', async (t) => {
  const { world, deps, job } = start(t, { 'min-size': '1MiB' });
  world.image('1', 'small');
  t.match(await convert(deps, job, SIGNAL), { outcome: 'skipped', reason: /the rule begins at 1048576/ });
});

t.test('a rule makes Nydus images, which are no sources', async (t) => {
  const { world, deps, job } = start(t, { to: 'nydus' });
  world.image('1', 'content');
  const nydus: ConvertJob = { ...job, format: 'nydus', name: { ...job.name, tag: '1-nydus' } };
  t.match(await convert(deps, nydus, SIGNAL), { outcome: 'converted', layers: 1, layersKept: 0 });
  const made = world.results.get('1-nydus')!;
  const { layers } = JSON.parse(made.bytes.toString()) as { layers: { annotations: object }[] };
  t.equal(layers.length, 2);
  t.match(layers[1]!.annotations, { 'containerd.io/snapshot/nydus-bootstrap': 'true' });
  world.manifests.set('1', made);
  t.match(await convert(deps, nydus, SIGNAL), { outcome: 'skipped', reason: /is a result/ });
});

t.test(
  'what is attached to a source is named: referrers and tags of cosign, of its index and manifests',
  async (t) => {
    const { world, deps, job } = start(t);
    const image = world.image('amd64', 'content');
    const platform = { os: 'linux', architecture: 'amd64' };
    const child = { mediaType: OCI_MANIFEST, digest: image.digest, size: image.bytes.length, platform };
    const index = documentOf({ schemaVersion: 2, mediaType: OCI_INDEX, manifests: [child] }, OCI_INDEX);
    world.manifests.set('1', index).set(index.digest, index);
    const stem = (digest: Digest): string => digest.replace(':', '-');
    world.image(`${stem(index.digest)}.sig`, 'signature');
    world.image(`${stem(image.digest)}.sbom`, 'sbom');
    world.image(`${stem(digestOf(Buffer.from('another')))}.sig`, 'of another image');
    const sbom = { mediaType: OCI_MANIFEST, digest: digestOf(Buffer.from('spdx')), size: 4 };
    const result = { ...sbom, annotations: { [SOURCE_ANNOTATION]: image.digest } };
    world.referrers.set(image.digest, [{ ...sbom, artifactType: 'application/spdx+json' }, result]);
    const { outcome, lost } = await convert(deps, job, SIGNAL);
    t.equal(outcome, 'converted');
    t.same(lost, [
      `cosign signature ${stem(index.digest)}.sig`,
      `application/spdx+json ${sbom.digest} of ${image.digest}`,
      `cosign SBOM ${stem(image.digest)}.sbom of ${image.digest}`,
    ]);
    world.manifests.set('1', image);
    world.referrers.clear();
    world.manifests.delete(`${stem(image.digest)}.sbom`);
    t.notOk('lost' in (await convert(deps, job, SIGNAL)), 'nothing is attached, nothing is lost');
  },
);

t.test('a platform that is not there is named; a rule that leaves it out converts the others', async (t) => {
  const whole = start(t);
  const some = start(t, { platforms: ['linux/amd64'] });
  const gone = digestOf(Buffer.from('gone'));
  for (const { world } of [whole, some]) {
    const image = world.image('amd64', 'content');
    const manifests = [
      { digest: gone, size: 4, platform: { os: 'linux', architecture: 'arm64' } },
      { digest: image.digest, size: image.bytes.length, platform: { os: 'linux', architecture: 'amd64' } },
    ].map((one) => ({ mediaType: OCI_MANIFEST, ...one }));
    const index = documentOf({ schemaVersion: 2, mediaType: OCI_INDEX, manifests }, OCI_INDEX);
    world.manifests.set('1', index).set(index.digest, index);
  }
  await t.rejects(convert(whole.deps, whole.job, SIGNAL), {
    code: 'MANIFEST_UNKNOWN',
    message: `its index names ${gone} (linux/arm64), which its repository does not have; choose the platforms that are there`,
  });
  t.match(await convert(some.deps, some.job, SIGNAL), { outcome: 'converted', layers: 1 });
});

t.test('what an index names again and again is looked at once', async (t) => {
  const { world, deps, job } = start(t);
  const image = world.image('amd64', 'content');
  const child = { mediaType: OCI_MANIFEST, digest: image.digest, size: image.bytes.length };
  const manifests = Array.from({ length: 1_000 }, () => child);
  const index = documentOf({ schemaVersion: 2, mediaType: OCI_INDEX, manifests }, OCI_INDEX);
  world.manifests.set('1', index).set(index.digest, index);
  const sbom = { mediaType: OCI_MANIFEST, digest: digestOf(Buffer.from('spdx')), size: 4 };
  world.referrers.set(image.digest, [{ ...sbom, artifactType: 'application/spdx+json' }]);
  const asked: string[] = [];
  const source: ImageSource = {
    ...world.source,
    manifest: async (reference) => {
      asked.push(reference);
      return await world.source.manifest(reference);
    },
  };
  const { outcome, lost } = await convert(deps, { ...job, source }, SIGNAL);
  t.equal(outcome, 'converted');
  t.same(lost, [`application/spdx+json ${sbom.digest} of ${image.digest}`]);
  t.equal(asked.filter((reference) => reference === image.digest).length, 2);
});

t.test('what is attached may call itself what it likes: a job keeps the begin of that', async (t) => {
  const { world, deps, job } = start(t);
  const image = world.image('1', 'content');
  const one = { mediaType: OCI_MANIFEST, digest: digestOf(Buffer.from('spdx')), size: 4 };
  world.referrers.set(image.digest, [{ ...one, artifactType: `application/${'x'.repeat(100_000)}` }]);
  t.same((await convert(deps, job, SIGNAL)).lost, [`application/${'x'.repeat(108)}… ${one.digest}`]);
});

t.test('a registry that lists no referrers is told apart by its answer', async (t) => {
  const { world, deps, job } = start(t, { result: 'referrer' });
  world.image('1', 'x');
  world.listsReferrers = false;
  await t.rejects(convert(deps, job, SIGNAL), { code: 'METHOD_UNSUPPORTED', message: /lists? .*referrers/ });
  world.listsReferrers = true;
  const outcome = await convert(deps, job, SIGNAL);
  t.match(outcome, { outcome: 'converted', target: `registry.example/a@${outcome.digest}` });
});

t.test('where no single tag can be deleted, its manifest goes unless another tag has it', async (t) => {
  const { world, deps, job } = start(t);
  world.image('1', 'x');
  await convert(deps, job, SIGNAL);
  const removal = { ...job, task: { ...job.task, kind: 'remove' } } as const;
  t.match(await remove(deps, removal, SIGNAL), { reason: 'the source is there again' });
  world.manifests.clear();
  world.deletesTags = false;
  world.results.set('latest-estargz', world.results.get('1-estargz')!);
  t.match(await remove(deps, removal, SIGNAL), {
    outcome: 'skipped',
    reason: /latest-estargz has the same/,
    stays: true,
  });
  world.results.delete('latest-estargz');
  t.match(await remove(deps, removal, SIGNAL), { outcome: 'removed' });
  t.same([...world.results.keys()], []);
  const digest = digestOf(Buffer.from('x'));
  world.results.set('1-estargz', {
    bytes: Buffer.from('{"schemaVersion":2,"layers":[]}'),
    digest,
    mediaType: OCI_MANIFEST,
  });
  t.match(await remove(deps, removal, SIGNAL), { outcome: 'skipped', reason: /is not a result/ });
});

t.test('of a large index what is lost is counted, and what was not looked at is said', async (t) => {
  const { world, deps, job } = start(t, { platforms: ['linux/amd64'] });
  const stem = (digest: Digest): string => digest.replace(':', '-');
  const manifests = Array.from({ length: 203 }, (_, at) => {
    const image = world.image(`child-${at}`, `content ${at}`);
    if (at >= 140) world.image(`${stem(image.digest)}.sig`, `signature ${at}`);
    const platform = at === 0 ? 'amd64' : 'arm64';
    return {
      mediaType: OCI_MANIFEST,
      digest: image.digest,
      size: image.bytes.length,
      platform: { os: 'linux', architecture: platform },
    };
  });
  const index = documentOf({ schemaVersion: 2, mediaType: OCI_INDEX, manifests }, OCI_INDEX);
  world.manifests.set('1', index).set(index.digest, index);
  const { lost } = await convert(deps, job, SIGNAL);
  t.equal(lost?.length, 52);
  t.equal(lost?.[0], `cosign signature ${stem(manifests[140]!.digest)}.sig of ${manifests[140]!.digest}`);
  t.same(lost?.slice(50), ['10 more', 'what is attached to 3 further manifests of the index: not looked at']);
});

t.test('the progress of a layer says of which platform it is', async (t) => {
  const { world, deps, job } = start(t);
  const manifests = ['amd64', 'arm64'].map((architecture) => {
    const { digest, bytes } = world.image(architecture, `for ${architecture}`);
    return { mediaType: OCI_MANIFEST, digest, size: bytes.length, platform: { os: 'linux', architecture } };
  });
  const index = documentOf({ schemaVersion: 2, mediaType: OCI_INDEX, manifests }, OCI_INDEX);
  world.manifests.set('1', index).set(index.digest, index);
  const told = new Set<string>();
  const onProgress: ConvertDeps['onProgress'] = (book) => {
    for (const { phase, platforms } of book.view()) told.add(`${phase} ${platforms}`);
  };
  t.match(await convert({ ...deps, onProgress }, job, SIGNAL), { outcome: 'converted', layers: 2 });
  t.ok(told.has('done linux/amd64') && told.has('done linux/arm64'), [...told].join('; '));
});
