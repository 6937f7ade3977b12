import { gzipSync } from 'node:zlib';
import { digestOf } from '@sepia/base/digest';
import { OCI_MANIFEST } from '@sepia/oci/manifest';
import t from 'tap';
import { type ConvertDeps, type ConvertResult, convertImage } from '../../src/convert/convert-image.ts';
import { LAYER_DEFAULTS, type LayerOptions } from '../../src/convert/layer-job.ts';
import { mostUncompressed, WORK_BOUNDS, type WorkBounds } from '../../src/convert/work-limits.ts';
import {
  MemoryImages,
  MemoryScratch,
  memoryCache,
  memoryConversion,
  type Part,
} from '../support/memory-images.ts';
import { writeOldSparse, writeTar } from '../support/tar-writer.ts';

const MIB = 1024 * 1024;
const CONFIG = 'application/vnd.oci.image.config.v1+json';
const LAYER = 'application/vnd.oci.image.layer.v1.tar+gzip';

/** Where images are converted, and what of their layers was read. */
class Here {
  readonly images = new MemoryImages();
  readonly room = new MemoryScratch();
  readonly cache = memoryCache();

  async run(bounds: Partial<WorkBounds> = {}, options: Partial<LayerOptions> = {}): Promise<ConvertResult> {
    const deps: ConvertDeps = {
      ...memoryConversion(this.images, this.room),
      cache: this.cache,
      bounds: { ...WORK_BOUNDS, ...bounds },
    };
    return await convertImage(deps, 'app', { ...LAYER_DEFAULTS, tag: 'result', parallel: 2, ...options });
  }

  /** An image of layers that are not there: who reads one finds nothing. */
  named(layers: number, tag: string): Part {
    const parts = Array.from({ length: layers }, (_, at) => ({
      ...{ mediaType: LAYER, digest: digestOf(Buffer.from(`${tag} ${at}`)), size: 100 },
    }));
    const ids = parts.map(({ digest }) => digest);
    const config = this.images.addBlob(
      Buffer.from(JSON.stringify({ rootfs: { type: 'layers', diff_ids: ids } })),
      CONFIG,
    );
    return this.images.addManifest({ schemaVersion: 2, config, layers: parts }, OCI_MANIFEST, tag);
  }
}

t.test('a small blob may not become as long as it likes', async (t) => {
  const GIB = 1024 ** 3;
  t.equal(mostUncompressed(0), 16 * GIB);
  t.equal(mostUncompressed(GIB / 100), 16 * GIB, 'no layer of a common length is left out');
  t.equal(mostUncompressed(GIB / 4), 50 * GIB, 'a quarter of a GiB of zeros would be 250');
});

t.test('an image of more layers than a system stacks is refused before one is read', async (t) => {
  const here = new Here();
  here.named(3_000, 'app');
  const message = 'an image of it has 3000 layers; no system stacks more than 500';
  await t.rejects(here.run(), { code: 'MANIFEST_SYNTAX', message });
  t.ok(here.images.reads.length <= 1, 'no more than its config');
  const index = new Here();
  index.images.addIndex(
    Array.from({ length: 5 }, (_, at) => index.named(at === 0 ? 499 : 500, `p${at}`)),
    'app',
  );
  await t.rejects(index.run({ layers: 400 }), { message: 'its images have more than 400 different layers' });
});

t.test('an index that names the next again and again does not go on without end', async (t) => {
  const here = new Here();
  const nested = (times: number): Part => {
    let below = here.images.addImage([writeTar([{ name: 'a' }])]);
    for (let depth = 0; depth < 4; depth += 1)
      below = here.images.addIndex(
        Array.from({ length: times }, () => below),
        depth === 3 ? 'app' : undefined,
      );
    return below;
  };
  nested(500);
  await t.rejects(here.run(), { code: 'MANIFEST_SYNTAX', message: 'it names more than 2000 manifests' });
  const deep = nested(100);
  t.match(await here.run(), { layers: [{}] }, 'each is converted once');
  here.images.addIndex([deep], 'app');
  await t.rejects(here.run(), { message: 'indexes are nested deeper than 4' });
});

t.test('layers that grow are counted together', async (t) => {
  const here = new Here();
  const bomb = (name: string): Buffer => writeTar([{ name, payload: Buffer.alloc(MIB) }]);
  here.images.addImage([bomb('a'), bomb('b'), bomb('c')], { tag: 'app' });
  const unpackedBytes = 2.5 * MIB;
  const compressed = 3 * gzipSync(bomb('a')).length;
  t.ok(compressed * 200 < unpackedBytes);
  await t.rejects(here.run({ unpackedBytes }), {
    code: 'MANIFEST_SYNTAX',
    message: /^\d+ bytes of its layers are more than 2621440 uncompressed/,
  });
  t.equal(here.room.held, 0, 'nothing is left behind');
  t.match(await here.run({ unpackedBytes: 4 * MIB }), { layers: [{}, {}, {}] });
});

t.test('layers that were converted before count with the others', async (t) => {
  const here = new Here();
  const [one, two] = ['a', 'b'].map((name) => writeTar([{ name, payload: Buffer.alloc(3 * MIB) }]));
  for (const tar of [one!, two!]) {
    here.images.addImage([tar], { tag: 'app' });
    t.match(await here.run({ unpackedBytes: 4 * MIB }), { layers: [{ isFromCache: false }] });
  }
  here.images.addImage([one!, two!], { tag: 'app' });
  const message = /more than 4194304 uncompressed/;
  await t.rejects(here.run({ unpackedBytes: 4 * MIB }), { code: 'MANIFEST_SYNTAX', message });
  const layers = [{ isFromCache: true }, { isFromCache: true }];
  t.match(await here.run({ unpackedBytes: 7 * MIB }), { layers });
});

t.test('only what came of layers lets them grow, whatever length a manifest claims', async (t) => {
  const here = new Here();
  const tar = writeTar([{ name: 'a', payload: Buffer.alloc(3 * MIB) }]);
  const of = (tag: string, more: object, others: readonly object[] = []): void => {
    const layers = [{ ...here.images.addBlob(gzipSync(tar), LAYER), ...more }, ...others];
    const rootfs = { type: 'layers', diff_ids: layers.map(() => digestOf(tar)) };
    const config = here.images.addBlob(Buffer.from(JSON.stringify({ rootfs })), CONFIG);
    here.images.addManifest({ schemaVersion: 2, config, layers }, OCI_MANIFEST, tag);
  };
  of('app', { size: 9e15 });
  await t.rejects(here.run({ unpackedBytes: MIB }), { code: 'MANIFEST_SYNTAX', message: /uncompressed/ });
  const mediaType = 'application/vnd.oci.image.layer.v1.tar+encrypted';
  of('app', {}, [{ mediaType, digest: digestOf(Buffer.from('decoy')), size: 9e15, urls: ['elsewhere'] }]);
  await t.rejects(here.run({ unpackedBytes: MIB }), { code: 'MANIFEST_SYNTAX', message: /uncompressed/ });
  t.equal(here.room.held, 0);
  t.match(await here.run({ unpackedBytes: 4 * MIB }), { layers: [{}] });
});

t.test('so are the holes of sparse files', async (t) => {
  for (const format of ['estargz', 'nydus'] as const) {
    const here = new Here();
    const sparse = (name: string): Buffer =>
      writeOldSparse({ name, payload: Buffer.from('x') }, [0, 1], 2 * MIB);
    here.images.addImage([sparse('a'), sparse('b')], { tag: 'app' });
    const how = { format, chunkBytes: MIB };
    await t.rejects(here.run({ unpackedBytes: 3 * MIB }, how), { code: 'MANIFEST_SYNTAX' });
    t.match(await here.run({ unpackedBytes: 6 * MIB }, how), { layers: [{}, {}] });
  }
});
