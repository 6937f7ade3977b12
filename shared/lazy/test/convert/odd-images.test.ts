import { Readable } from 'node:stream';
import { gunzipSync } from 'node:zlib';
import { createZstdFrames } from '@sepia/base/zstd/zstd-stream';
import t from 'tap';
import { convertImage } from '../../src/convert/convert-image.ts';
import { type ConvertFormat, layerDefaults } from '../../src/convert/layer-job.ts';
import { verifyImage } from '../../src/convert/verify-image.ts';
import { MemoryImages, MemoryScratch, memoryConversion, type Part } from '../support/memory-images.ts';
import { ODD_IMAGES, stacked } from '../support/odd-images.ts';

type TarFormat = Exclude<ConvertFormat, 'nydus'>;

const FORMATS: Record<TarFormat, (blob: Buffer) => Promise<Buffer>> = {
  estargz: async (blob) => gunzipSync(blob),
  zstdchunked: async (blob) =>
    Buffer.concat((await Readable.from([blob]).pipe(createZstdFrames()).toArray()) as Buffer[]),
};

for (const [format, inflate] of Object.entries(FORMATS) as [TarFormat, (blob: Buffer) => Promise<Buffer>][])
  for (const [name, tars, meaning] of ODD_IMAGES)
    t.test(`tree before = tree after, ${format}: ${name}`, async (t) => {
      const images = new MemoryImages();
      images.addImage(tars, { tag: 'odd' });
      const deps = memoryConversion(images);
      const options = { ...layerDefaults(format), tag: 'result', parallel: 1 };
      const result = await convertImage(deps, 'odd', options);
      const { layers } = images.json<{ layers: Part[] }>('result');
      const after = await Promise.all(
        layers.map(async ({ digest, mediaType }) => {
          const blob = images.blobs.get(digest)!;
          return mediaType.endsWith('+zstd') ? await inflate(blob) : gunzipSync(blob);
        }),
      );
      t.same(stacked(after), stacked(meaning));
      const verified = await verifyImage(
        {
          source: images,
          scratch: new MemoryScratch().make,
          tocImage: async () => undefined,
          onLayer: () => undefined,
        },
        'result',
        undefined,
      );
      t.same(
        verified.flatMap(({ findings }) => findings.map(({ message }) => message)),
        [],
      );
      const right = verified.filter(({ state }) => state === 'right').length;
      const converted = new Set(
        result.layers.flatMap(({ record }) => (record.kind === 'converted' ? record.digest : [])),
      );
      t.equal(right, converted.size, 'layers that verify');
      const kept = result.layers.filter(({ record }) => record.kind === 'kept').length;
      t.equal(kept, name === 'hard links inside and across layers' ? 1 : 0, 'layers kept as they are');
    });
