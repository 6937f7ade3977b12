import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { convertImage } from '@sepia/lazy/convert/convert-image';
import { layerDefaults } from '@sepia/lazy/convert/layer-job';
import { inlinePacker } from '@sepia/lazy/pack/batch';
import type { Compressor } from '@sepia/lazy/pack/unpack';
import { bootstrapIn } from '@sepia/lazy/rafs/bootstrap-layer';
import {
  MemoryImages,
  MemoryScratch,
  memoryCache,
  type Part,
} from '../../../shared/lazy/test/support/memory-images.ts';
import type { stacked } from '../../../shared/lazy/test/support/odd-images.ts';

/** A converted image as Nydus's tools read it. */
export interface OnDisk {
  readonly bootstrap: string;
  readonly blobDir: string;
  readonly blobs: readonly string[];
}

/** Converts an image of these layers and writes it as nydus-image reads it. */
export async function converted(
  dir: string,
  tars: readonly Buffer[],
  compressor: Compressor,
): Promise<OnDisk> {
  const images = new MemoryImages();
  images.addImage(tars, { tag: 'odd' });
  const ends = { source: images, target: images, cache: memoryCache(), scratch: new MemoryScratch().make };
  const report = { layer: () => undefined, layerDone: () => undefined };
  const options = { ...layerDefaults('nydus'), compressor, tag: 'result', parallel: 2 };
  await convertImage({ ...ends, packer: inlinePacker, report }, 'odd', options);
  const { layers } = images.json<{ layers: Part[] }>('result');
  const blobDir = join(dir, 'blobs');
  mkdirSync(blobDir, { recursive: true });
  const blobs = [...new Set(layers.slice(0, -1).map(({ digest }) => digest))].map((digest) => {
    const path = join(blobDir, digest.slice('sha256:'.length));
    writeFileSync(path, images.blobs.get(digest)!);
    return path;
  });
  const bootstrap = join(dir, 'image.boot');
  writeFileSync(bootstrap, bootstrapIn(gunzipSync(images.blobs.get(layers.at(-1)!.digest)!)));
  return { bootstrap, blobDir, blobs };
}

/** What both sides say of a node: RAFS has no names of owners, and the judge's tar no parts of seconds. */
export function facts(tree: ReturnType<typeof stacked>): Record<string, object> {
  return Object.fromEntries(
    Object.entries(tree).map(([path, { userName: _, groupName: __, mtimeNsec: ___, ...node }]) => [
      path,
      node,
    ]),
  );
}
