import { gzipSync } from 'node:zlib';
import { digestOf } from '@sepia/base/digest';
import { OCI_MANIFEST } from '@sepia/oci/manifest';
import t from 'tap';
import { type ConvertDeps, type ConvertOptions, convertImage } from '../../src/convert/convert-image.ts';
import type { ImageSource } from '../../src/convert/ends.ts';
import { LAYER_DEFAULTS } from '../../src/convert/layer-job.ts';
import { MemoryImages, memoryConversion } from '../support/memory-images.ts';
import { writeTar } from '../support/tar-writer.ts';

const OPTIONS: ConvertOptions = { ...LAYER_DEFAULTS, tag: 'result', parallel: 1 };
const TAR = writeTar([{ name: 'a', payload: Buffer.from('a') }]);
const SECRET = writeTar([{ name: 'secret', payload: Buffer.from('of others') }]);
const FOREIGN = 'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip';
const LAYER = 'application/vnd.oci.image.layer.v1.tar+gzip';

/** A repository whose target takes over what any other at its registry has, and which blobs that was asked for. */
function beside(images: MemoryImages): { deps: ConvertDeps; asked: string[] } {
  const asked: string[] = [];
  const source: ImageSource = {
    manifest: (reference) => images.manifest(reference),
    blob: (...wanted) => images.blob(...wanted),
    has: async (digest) => images.blobs.has(digest),
  };
  const target = {
    has: async (digest: string) => {
      asked.push(digest);
      return true;
    },
    putBlob: (blob: Parameters<MemoryImages['putBlob']>[0]) => images.putBlob(blob),
    putManifest: (...put: Parameters<MemoryImages['putManifest']>) => images.putManifest(...put),
  };
  return { deps: { ...memoryConversion(images), source, target }, asked };
}

/** An image that names a layer which its repository does not have. */
function naming(images: MemoryImages, mediaType: string, more: object = {}): void {
  const own = images.addBlob(gzipSync(TAR), LAYER);
  const bytes = gzipSync(SECRET);
  const named = { mediaType, digest: digestOf(bytes), size: bytes.length, ...more };
  const rootfs = { type: 'layers', diff_ids: [digestOf(TAR), digestOf(SECRET)] };
  const config = images.addBlob(
    Buffer.from(JSON.stringify({ architecture: 'amd64', os: 'linux', rootfs })),
    'application/vnd.oci.image.config.v1+json',
  );
  images.addManifest(
    { schemaVersion: 2, mediaType: OCI_MANIFEST, config, layers: [own, named] },
    OCI_MANIFEST,
    'tag',
  );
}

t.test('a foreign layer that only others have is not taken over from them', async (t) => {
  const secret = digestOf(gzipSync(SECRET));
  const images = new MemoryImages();
  naming(images, FOREIGN);
  const { deps, asked } = beside(images);
  await t.rejects(convertImage(deps, 'tag', OPTIONS), { code: 'BLOB_UNKNOWN' });
  t.notOk(asked.includes(secret));
  naming(images, FOREIGN, { urls: ['https://elsewhere.example/layer'] });
  await convertImage(deps, 'tag', OPTIONS);
  t.notOk(asked.includes(secret), 'it stays where its address says');
});

t.test('nor is what was made of a layer that only others have', async (t) => {
  const others = new MemoryImages();
  others.addImage([TAR, SECRET], { tag: 'tag' });
  const first = beside(others);
  const { layers } = await convertImage(first.deps, 'tag', OPTIONS);
  const made = layers.flatMap(({ record }) => (record.kind === 'converted' ? record.digest : []));
  t.equal(made.length, 2);
  const images = new MemoryImages();
  naming(images, LAYER);
  const { deps, asked } = beside(images);
  await t.rejects(convertImage({ ...deps, cache: first.deps.cache }, 'tag', OPTIONS), {
    code: 'BLOB_UNKNOWN',
  });
  t.same(asked, [made[0]], 'only what was made of its own layer');
  const again = beside(others);
  await convertImage({ ...again.deps, cache: first.deps.cache }, 'tag', OPTIONS);
  t.same(again.asked, made, 'who has the layers goes on with what was made of them');
});

t.test('a layer with addresses of its own is copied where it is there, and may be missing', async (t) => {
  const images = new MemoryImages();
  const target = new MemoryImages();
  const blobs = ['there', 'gone', 'bare'].map((text) => Buffer.from(text));
  const urls = [['ipfs://elsewhere'], ['ipfs://elsewhere'], []];
  const layers = blobs.map((bytes, at) => ({
    ...images.addBlob(bytes, 'application/vnd.example.part'),
    urls: urls[at],
  }));
  const config = images.addBlob(Buffer.from('{}'), 'application/vnd.example.config+json');
  images.addManifest({ schemaVersion: 2, mediaType: OCI_MANIFEST, config, layers }, OCI_MANIFEST, 'tag');
  images.blobs.delete(digestOf(blobs[1]!));
  await convertImage({ ...memoryConversion(images), target }, 'tag', OPTIONS);
  t.same(
    blobs.map((bytes) => target.blobs.has(digestOf(bytes))),
    [true, false, true],
  );
});
