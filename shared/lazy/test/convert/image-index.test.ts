import { OCI_MANIFEST } from '@sepia/oci/manifest';
import t from 'tap';
import { type ConvertOptions, type ConvertResult, convertImage } from '../../src/convert/convert-image.ts';
import { LAYER_DEFAULTS } from '../../src/convert/layer-job.ts';
import { MemoryImages, memoryConversion, type Part } from '../support/memory-images.ts';
import { writeTar } from '../support/tar-writer.ts';

interface Marked {
  readonly annotations: Record<string, string>;
}

const tarOf = (name: string): Buffer => writeTar([{ name, payload: Buffer.from(`content of ${name}`) }]);

function setup(images: MemoryImages): (options: Partial<ConvertOptions>) => Promise<ConvertResult> {
  const deps = memoryConversion(images);
  const all = { ...LAYER_DEFAULTS, tag: 'result', parallel: 2 };
  return async (options) => await convertImage(deps, 'app', { ...all, ...options });
}

t.test('beside its source: one index of both, originals first and untouched', async (t) => {
  const images = new MemoryImages();
  const amd = images.addImage([tarOf('a')]);
  const arm = images.addImage([tarOf('b')], { docker: true });
  const attestation = images.addManifest({ schemaVersion: 2, layers: [] }, OCI_MANIFEST);
  const children = [
    { ...amd, platform: { os: 'linux', architecture: 'amd64' } },
    { ...arm, platform: { os: 'linux', architecture: 'arm64', variant: 'v8' } },
    {
      ...attestation,
      platform: { os: 'unknown', architecture: 'unknown' },
      annotations: { 'vnd.docker.reference.type': 'attestation-manifest' },
    },
  ];
  const source = images.addIndex(children, 'app');
  const run = setup(images);
  const { result, copied } = await run({ form: 'image-index', platforms: ['linux/arm64'] });
  const index = images.json<Marked & { manifests: Part[] }>('result');
  t.strictSame(index.manifests.slice(0, 3), children, 'all of the source');
  t.equal(index.manifests.length, 4, 'and what was asked for, converted');
  t.match(index.manifests[3], {
    mediaType: OCI_MANIFEST,
    platform: { architecture: 'arm64', variant: 'v8', 'os.features': ['sepia.estargz'] },
    annotations: { 'io.sepia.conversion.source': source.digest },
  });
  t.equal(
    images.json<Marked>(index.manifests[3]!.digest).annotations['io.sepia.conversion.source'],
    arm.digest,
  );
  t.same(copied, [attestation.digest]);
  t.equal((await run({ form: 'image-index', platforms: ['linux/arm64'] })).result.digest, result.digest);
});

t.test('as a referrer: every converted document names its source', async (t) => {
  const images = new MemoryImages();
  const amd = images.addImage([tarOf('a')]);
  const source = images.addIndex([{ ...amd, platform: { os: 'linux', architecture: 'amd64' } }], 'app');
  const run = setup(images);
  const { result } = await run({ form: 'referrer', tag: undefined });
  t.notOk(images.manifests.has('result'));
  const index = images.json<{ manifests: Part[]; subject: object }>(result.digest);
  t.strictSame(index.subject, source);
  t.strictSame(images.json<{ subject: object }>(index.manifests[0]!.digest).subject, amd);
});

t.test('what an index names 900 times is read, converted and stored once', async (t) => {
  const images = new MemoryImages();
  const amd = { ...images.addImage([tarOf('a')]), platform: { os: 'linux', architecture: 'amd64' } };
  const statement = {
    ...images.addManifest({ schemaVersion: 2, layers: [] }, OCI_MANIFEST),
    platform: { os: 'unknown', architecture: 'unknown' },
  };
  const children = Array.from({ length: 450 }, () => [amd, statement]).flat();
  images.addIndex(children, 'app');
  const [read, stored]: [string[], string[]] = [[], []];
  const watched = images as {
    manifest: MemoryImages['manifest'];
    putManifest: MemoryImages['putManifest'];
  };
  watched.manifest = async (reference) => {
    read.push(reference);
    return await MemoryImages.prototype.manifest.call(images, reference);
  };
  watched.putManifest = async (document, tag) => {
    stored.push(document.digest);
    await MemoryImages.prototype.putManifest.call(images, document, tag);
  };
  const run = setup(images);
  const { result, copied } = await run({});
  t.strictSame(read, ['app', amd.digest, statement.digest]);
  t.equal(stored.length, 3);
  t.same(copied, [statement.digest]);
  const { manifests } = images.json<{ manifests: Part[] }>(result.digest);
  t.strictSame(manifests[1], statement);
  t.strictSame(manifests[898], manifests[0]);
  t.equal(manifests.length, 900);
  read.length = 0;
  stored.length = 0;
  await run({ form: 'image-index' });
  t.strictSame(read, ['app', amd.digest, statement.digest, amd.digest, statement.digest]);
  t.equal(stored.length, 5);
});
