import { setImmediate } from 'node:timers/promises';
import { gunzipSync, gzipSync } from 'node:zlib';
import { type Digest, digestOf } from '@sepia/base/digest';
import type { BlobName } from '@sepia/base/names/blob-name';
import { BY_HAND, type ConversionTask } from '@sepia/cluster/api/conversions';
import { isSignedBinding, type LayerBinding } from '@sepia/cluster/api/layer-binding';
import { convertImage } from '@sepia/lazy/convert/convert-image';
import { LargeLayers } from '@sepia/lazy/convert/large-layers';
import { layerDefaults } from '@sepia/lazy/convert/layer-job';
import { WORK_BOUNDS } from '@sepia/lazy/convert/work-limits';
import { readIndexHead } from '@sepia/lazy/index/layer-index';
import { inlinePacker } from '@sepia/lazy/pack/batch';
import { OCI_INDEX, OCI_MANIFEST } from '@sepia/oci/manifest';
import t from 'tap';
import {
  MemoryImages,
  MemoryScratch,
  memoryCache,
  type Part,
} from '../../../shared/lazy/test/support/memory-images.ts';
import { writeTar } from '../../../shared/lazy/test/support/tar-writer.ts';
import { runIndex } from '../../src/indexing/run-index.ts';

const GZIP_LAYER = 'application/vnd.oci.image.layer.v1.tar+gzip';
const KEY = Buffer.alloc(32, 7);
const BASE = writeTar([
  { name: 'bin/', typeFlag: '5', mode: 0o755 },
  { name: 'bin/sh', payload: Buffer.alloc(70_000, 'program ') },
]);
const APP = writeTar([{ name: 'app', payload: Buffer.from('the application') }]);

interface Manifest {
  readonly config: Part;
  readonly layers: readonly (Part & { readonly digest: Digest })[];
}

/** A cluster's records and indexes, in memory. */
class Here {
  readonly images = new MemoryImages();
  readonly records = new Map<Digest, LayerBinding>();
  readonly stored = new Map<Digest, Buffer>();
  readonly largeLayers = new LargeLayers();
  readonly #scratch = new MemoryScratch();

  /** An image of these layers, `source`, and the same as Nydus, `nydus`. */
  static async start(layers = [BASE, APP]): Promise<Here> {
    const here = new Here();
    here.images.addImage(layers, { tag: 'source' });
    await convertImage(
      {
        ...{ source: here.images, target: here.images, cache: memoryCache(), packer: inlinePacker },
        ...{ scratch: here.#scratch.make, report: { layer: () => undefined, layerDone: () => undefined } },
      },
      'source',
      { ...layerDefaults('nydus'), tag: 'nydus', parallel: 1 },
    );
    return here;
  }

  layers(tag: string): Manifest['layers'] {
    return this.images.json<Manifest>(tag).layers;
  }

  async index(tag: string, rule = 'index', unpackedBytes = WORK_BOUNDS.unpackedBytes) {
    const task: ConversionTask = { kind: 'index', rule, upstream: 'local', repository: 'team/app', tag };
    const outcome = await runIndex(
      {
        source: this.images,
        scratch: this.#scratch.make,
        freeBytes: async () => Number.MAX_SAFE_INTEGER,
        largeLayers: this.largeLayers,
        bounds: { ...WORK_BOUNDS, unpackedBytes },
        records: {
          get: async ({ digest }: BlobName) => this.records.get(digest),
          bind: async ({ digest }: BlobName, binding) => void this.records.set(digest, binding),
          store: async (_layer, digest, bytes) => void this.stored.set(digest, bytes),
        },
        ...{ clusterKey: KEY, memberId: 'accelerator-1', nowMs: () => 5 },
        ...{ progress: { note: () => undefined }, onProgress: () => undefined },
        offers: { of: async () => undefined, refused: () => undefined },
      },
      task,
      undefined,
      AbortSignal.timeout(60_000),
    );
    if (this.#scratch.held !== 0) throw new Error('scratch is held');
    return outcome;
  }

  /** An image of these layers under a tag; nobody believes the diffIDs of its config. */
  push(tag: string, layers: readonly { readonly digest: string; readonly [key: string]: unknown }[]): void {
    const text = JSON.stringify({
      rootfs: { type: 'layers', diff_ids: layers.map(({ digest }) => digest) },
    });
    const config = this.images.addBlob(Buffer.from(text), 'application/vnd.oci.image.config.v1+json');
    this.images.addManifest({ schemaVersion: 2, mediaType: OCI_MANIFEST, config, layers }, OCI_MANIFEST, tag);
  }
}

t.test('a Nydus image: its bootstrap gets the index of all, its data blobs that of nothing', async (t) => {
  const here = await Here.start();
  t.match(await here.index('nydus'), {
    outcome: 'indexed',
    layers: 3,
    layersFromCache: 0,
    notLazy: undefined,
  });
  const layers = here.layers('nydus');
  const bindings = layers.map(({ digest }) => here.records.get(digest)!);
  t.same(
    bindings.map(({ kind }) => kind),
    ['nydus-blob', 'nydus-blob', 'nydus-bootstrap'],
  );
  t.ok(bindings.every((one) => isSignedBinding(KEY, one)));
  t.notOk(isSignedBinding(KEY, { ...bindings[0]!, kind: 'nydus-bootstrap' }), 'the kind is signed');
  const indexes = bindings.map(({ index }) => readIndexHead(here.stored.get(index!)!));
  t.same(
    indexes.map(({ kind, diffId }) => [kind, diffId]),
    bindings.map(({ kind, diffId }) => [kind, diffId]),
  );
  t.same(
    indexes[2]!.entries.map(({ path }) => path),
    ['', 'app', 'bin', 'bin/sh'],
  );
  t.same(
    indexes[2]!.sources.map(({ digest }) => digest),
    layers.slice(0, 2).map(({ digest }) => digest),
  );
  t.match(await here.index('nydus'), { outcome: 'unchanged' });
});

t.test('while the layers of a Nydus image are pulled, another large layer has the room', async (t) => {
  const here = await Here.start();
  const [blob] = here.layers('nydus');
  const asked = Promise.withResolvers<void>();
  const goOn = Promise.withResolvers<void>();
  const pull = here.images.blob.bind(here.images);
  here.images.blob = async (layer, take, signal) => {
    if (layer.digest === blob!.digest) {
      asked.resolve();
      await goOn.promise;
    }
    await pull(layer, take, signal);
  };
  const indexed = here.index('nydus');
  await asked.promise;
  const other = here.largeLayers.claim();
  const taken = other.take().then(() => 'taken');
  t.equal(await Promise.race([taken, setImmediate('waits')]), 'taken');
  goOn.resolve();
  await setImmediate();
  other[Symbol.dispose]();
  t.match(await indexed, { outcome: 'indexed', layers: 3 });
});

t.test('while a large layer is pulled, another has the room', async (t) => {
  const entries = Array.from({ length: 200 }, (_, at) => ({
    name: `file ${at}`,
    xattrs: new Map([['user.a', Buffer.alloc(60_000, at)]]),
  }));
  const large = writeTar(entries);
  const plain = new Here();
  plain.images.addImage([large], { tag: 'large' });
  t.match(await plain.index('large'), { outcome: 'indexed', layers: 1 });
  const [index] = plain.stored.keys();
  const here = new Here();
  here.images.addImage([large], { tag: 'large' });
  const asked = Promise.withResolvers<void>();
  const goOn = Promise.withResolvers<void>();
  const pull = here.images.blob.bind(here.images);
  here.images.blob = async (layer, take, signal) => {
    let bytes = 0;
    const slowly = async (chunk: Uint8Array): Promise<void> => {
      bytes += chunk.length;
      if (bytes === layer.sizeBytes && layer.sizeBytes > 1_000) {
        asked.resolve();
        await goOn.promise;
      }
      await take(chunk);
    };
    await pull(layer, slowly, signal);
  };
  const indexed = here.index('large');
  await asked.promise;
  const other = here.largeLayers.claim();
  const taken = other.take().then(() => 'taken');
  t.equal(await Promise.race([taken, setImmediate('waits')]), 'taken');
  goOn.resolve();
  for (let turn = 0; turn < 100; turn += 1) await setImmediate();
  t.equal(here.stored.size, 0, 'it waits for the room now');
  other[Symbol.dispose]();
  t.match(await indexed, { outcome: 'indexed', layers: 1 });
  t.same([...here.stored.keys()], [index], 'the same index');
});

t.test('chunks of a Nydus image that grow count, too', async (t) => {
  const payload = Buffer.concat(Array.from({ length: 8 }, (_, at) => Buffer.alloc(1024 * 1024, at)));
  const here = await Here.start([writeTar([{ name: 'long', payload }])]);
  const refused = { code: 'MANIFEST_SYNTAX', message: /more than 6291456 uncompressed/ };
  await t.rejects(here.index('nydus', 'index', 6 * 1024 * 1024), refused);
  t.equal(here.records.size, 0);
  t.match(await here.index('nydus', 'index', 8 * 1024 * 1024), { outcome: 'indexed' });
});

t.test('what is not what the manifest calls it takes nothing from the layer that it is', async (t) => {
  const here = await Here.start();
  const [blob, , bootstrap] = here.layers('nydus');
  const tar = here.images.addBlob(BASE, 'application/vnd.oci.image.layer.nydus.blob.v1', {
    annotations: { 'containerd.io/snapshot/nydus-blob': 'true' },
  });
  here.push('forged', [tar, blob!, bootstrap!]);
  t.match(await here.index('forged'), {
    notLazy: [/: not a valid Nydus image/, /needs|names the blob|its data blob/],
  });
  t.match(here.records.get(tar.digest), { kind: 'nydus-blob', index: undefined });
  here.push('plain', [
    { ...tar, mediaType: 'application/vnd.oci.image.layer.v1.tar', annotations: undefined },
  ]);
  t.match(await here.index('plain'), { outcome: 'indexed' });
  const ordinary = here.records.get(tar.digest)!;
  t.match(ordinary, { kind: undefined, diffId: tar.digest });
  t.match(await here.index('forged', BY_HAND), { notLazy: [/not a valid Nydus image/, /./] });
  t.equal(here.records.get(tar.digest), ordinary, 'its record stays');
});

t.test(
  'the layer with a bootstrap is no ordinary layer, and becomes what it is in its own image',
  async (t) => {
    const here = await Here.start();
    const last = here.layers('nydus').at(-1)!;
    const raw = gunzipSync(here.images.blobs.get(last.digest)!);
    here.images.addImage([raw], { tag: 'other' });
    const { layers } = here.images.json<Manifest>('other');
    await here.index('other');
    t.match(here.records.get(layers[0]!.digest), { reason: 'it has the bootstrap of a Nydus image' });
    const [one, two] = here.layers('nydus');
    here.push('again', [
      one!,
      two!,
      { ...layers[0]!, annotations: { 'containerd.io/snapshot/nydus-bootstrap': 'true' } },
    ]);
    t.match(await here.index('again'), { outcome: 'indexed', notLazy: undefined });
    t.match(here.records.get(layers[0]!.digest), { kind: 'nydus-bootstrap', reason: undefined });
  },
);

t.test('a data blob with a wrong byte, or that is not there, makes no index', async (t) => {
  const here = await Here.start();
  const [one, two, last] = here.layers('nydus');
  const bad = Buffer.from(here.images.blobs.get(one!.digest)!);
  bad[10]! ^= 1;
  const changed = here.images.addBlob(bad, one!.mediaType);
  here.push('damaged', [changed, two!, last!]);
  const { notLazy } = await here.index('damaged');
  t.match(notLazy, [/chunk 0/, /names the blob/]);
  t.notOk(
    [...here.records.values()].some(({ kind, index }) => kind === 'nydus-bootstrap' && index !== undefined),
  );
  here.push('short', [two!, last!]);
  await here.index('short');
  t.match(here.records.get(last!.digest), {
    reason: /names the blob [0-9a-f]{64}, which is no layer of the image/,
  });
});

t.test('ordinary images are indexed layer by layer, once', async (t) => {
  const here = new Here();
  here.images.addImage([BASE, APP], { tag: 'source' });
  t.match(await here.index('source'), { outcome: 'indexed', layers: 2 });
  const reads = here.images.reads.length;
  t.match(await here.index('source'), { outcome: 'unchanged', layersFromCache: 2 });
  t.equal(here.images.reads.length, reads + 1, 'the config alone is read again');
  t.ok([...here.records.values()].every(({ kind, index }) => kind === undefined && index !== undefined));
  t.equal(here.stored.size, 2);
});

t.test('an index that names the next again and again is looked at once', async (t) => {
  const here = new Here();
  let below = here.images.addImage([APP]);
  for (let depth = 0; depth < 4; depth += 1)
    below = here.images.addIndex(
      Array.from({ length: 100 }, () => below),
      'again',
    );
  t.match(await here.index('again'), { outcome: 'indexed', layers: 1 });
  t.equal(here.images.reads.length, 2, 'its config and its layer');
});

t.test('what asks for work without end is refused: layers, manifests, blobs that grow', async (t) => {
  const here = new Here();
  const absent = Array.from({ length: 3_000 }, (_, at) => {
    const digest = digestOf(Buffer.from(`layer ${at}`));
    return { mediaType: GZIP_LAYER, digest, size: 100 };
  });
  here.push('many', absent);
  await t.rejects(here.index('many'), {
    code: 'MANIFEST_SYNTAX',
    message: /has 3000 layers; no system stacks more/,
  });
  // Each names a hundred others of one image.
  const image = here.images.addImage([APP]);
  const folder = (name: string, children: readonly object[]): Part =>
    here.images.addManifest({ schemaVersion: 2, name, manifests: children }, OCI_INDEX, name);
  const folders = Array.from({ length: 100 }, (_, at) =>
    folder(
      `folder ${at}`,
      Array.from({ length: 20 }, (_, more) => folder(`folder ${at} ${more}`, [image])),
    ),
  );
  folder('wide', folders);
  await t.rejects(here.index('wide'), { code: 'MANIFEST_SYNTAX', message: /more than 2000 manifests/ });

  const zeros = Buffer.alloc(32 * 1024 * 1024);
  const blob = gzipSync(writeTar([{ name: 'zeros', payload: zeros }]));
  const layer = here.images.addBlob(blob, GZIP_LAYER);
  for (const size of [blob.length, 9e15]) {
    here.push('bomb', [{ ...layer, size }]);
    await t.rejects(here.index('bomb', 'index', 16 * 1024 * 1024), {
      code: 'MANIFEST_SYNTAX',
      message: /uncompressed/,
    });
  }
  here.push('bomb', [layer]);
  t.equal(here.records.size, 0);
  t.match(await here.index('bomb'), { outcome: 'indexed', layers: 1 });
});

t.test('of an index that names what is not there the others are indexed', async (t) => {
  const here = await Here.start();
  const one = here.images.addImage([BASE], { tag: 'one' });
  const gone = { mediaType: OCI_MANIFEST, digest: digestOf(Buffer.from('gone')), size: 4 };
  here.images.addIndex([gone, one], 'sparse');
  t.match(await here.index('sparse'), { outcome: 'indexed', digest: one.digest, layers: 1 });
  here.images.addIndex([gone], 'hollow');
  t.match(await here.index('hollow'), { outcome: 'skipped', reason: /has none here/ });
});
