import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { convertImage } from '@sepia/lazy/convert/convert-image';
import { layerDefaults } from '@sepia/lazy/convert/layer-job';
import { inlinePacker } from '@sepia/lazy/pack/batch';
import { bootstrapIn } from '@sepia/lazy/rafs/bootstrap-layer';
import { COMPRESSORS, type Compressor } from '@sepia/lazy/rafs/format';
import { run } from '@sepia/test-support/testbed';
import t, { type Test } from 'tap';
import {
  MemoryImages,
  MemoryScratch,
  memoryCache,
  type Part,
} from '../../shared/lazy/test/support/memory-images.ts';
import { ODD_IMAGES, stacked } from '../../shared/lazy/test/support/odd-images.ts';

/** Nydus's own tool judges what we write. It is not run with the other tests: building it takes minutes. */
const JUDGE = process.env['NYDUS_IMAGE'] ?? '/usr/bin/nydus-image';
const HOW =
  'cargo install nydus-rs --version 2.2.0 --locked --bin nydus-image --root ./judge; NYDUS_IMAGE=./judge/bin/nydus-image';
const LIMIT_MS = 30_000;

interface OnDisk {
  readonly bootstrap: string;
  readonly blobDir: string;
  readonly blobs: readonly string[];
}

/** Converts an image of these layers and writes it as nydus-image reads it. */
async function converted(dir: string, tars: readonly Buffer[], compressor: Compressor): Promise<OnDisk> {
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

async function accepted(t: Test, args: readonly string[], what: string): Promise<void> {
  const { code, stdout, stderr } = await run(JUDGE, args, {}, LIMIT_MS);
  t.equal(code, 0, code === 0 ? what : `${what}: ${stdout}${stderr}`);
}

/** What both sides say of a node: RAFS has no names of owners, and the judge's tar no parts of seconds. */
function facts(tree: ReturnType<typeof stacked>): Record<string, object> {
  return Object.fromEntries(
    Object.entries(tree).map(([path, { userName: _, groupName: __, mtimeNsec: ___, ...node }]) => [
      path,
      node,
    ]),
  );
}

for (const compressor of COMPRESSORS)
  for (const [name, tars, meaning] of ODD_IMAGES)
    t.test(
      `nydus-image accepts what we write, ${compressor}: ${name}`,
      { skip: existsSync(JUDGE) ? false : `needs nydus-image: ${HOW}` },
      async (t) => {
        const dir = t.testdir();
        const { bootstrap, blobDir, blobs } = await converted(dir, tars, compressor);
        await accepted(t, ['check', '--blob-dir', blobDir, bootstrap], 'the bootstrap of the image');
        for (const blob of blobs)
          await accepted(t, ['check', '--blob-dir', blobDir, blob], 'the bootstrap in a blob');
        const merged = ['merge', '--bootstrap', join(dir, 'merged'), '--blob-dir', blobDir, ...blobs];
        await accepted(t, merged, 'its own merge of the blobs');
        // It unpacks images of one blob only.
        if (tars.length !== 1) return;
        const tar = join(dir, 'unpacked.tar');
        await accepted(t, ['unpack', '--blob', blobs[0]!, '--output', tar, bootstrap], 'it is unpacked');
        const unpacked = facts(stacked([readFileSync(tar)]));
        for (const [path, node] of Object.entries(facts(stacked(meaning))))
          t.same(unpacked[path], node, path);
      },
    );
