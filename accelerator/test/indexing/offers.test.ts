import { type Digest, digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import type { BlobName } from '@sepia/base/names/blob-name';
import { BY_HAND } from '@sepia/cluster/api/conversions';
import type { LayerBinding } from '@sepia/cluster/api/layer-binding';
import { indexArtifact } from '@sepia/lazy/artifact/index-artifact';
import { LargeLayers } from '@sepia/lazy/convert/large-layers';
import type { MakeScratch } from '@sepia/lazy/convert/scratch';
import { readIndexHead } from '@sepia/lazy/index/layer-index';
import { LogLines } from '@sepia/test-support/log-lines';
import { seededBytes } from '@sepia/test-support/upstream/fake-upstream-image';
import t from 'tap';
import { MemoryImages, MemoryScratch } from '../../../shared/lazy/test/support/memory-images.ts';
import { writeTar } from '../../../shared/lazy/test/support/tar-writer.ts';
import type { Image } from '../../src/indexing/images.ts';
import { Offers } from '../../src/indexing/offers.ts';
import { runIndex } from '../../src/indexing/run-index.ts';

const TARS = ['one', 'two'].map((name) =>
  writeTar([{ name, payload: Buffer.from(seededBytes(300_000, name).toString('base64')) }]),
);

/** A cluster that knows nothing of an image `app`, and what is attached to it at its registry. */
class Cluster {
  readonly images = new MemoryImages();
  readonly records = new Map<Digest, LayerBinding>();
  readonly stored = new Map<Digest, Buffer>();
  readonly log = new LogLines();
  readonly scratch = new MemoryScratch();
  makeScratch: MakeScratch = this.scratch.make;
  freeBytes = async (): Promise<number> => Number.MAX_SAFE_INTEGER;
  referrers: { digest: Digest; artifactType?: string }[] = [];
  listed = 0;

  constructor() {
    this.images.addImage(TARS, { tag: 'app' });
  }

  get layers(): readonly { readonly digest: Digest }[] {
    return this.images.json<{ layers: { digest: Digest }[] }>('app').layers;
  }

  async index(rule = 'index') {
    const referrers = async () => {
      this.listed += 1;
      return this.referrers.map((one) => ({ mediaType: 'x', size: 1, ...one }));
    };
    const outcome = await runIndex(
      {
        ...{
          source: this.images,
          scratch: async () => await this.makeScratch(),
          largeLayers: new LargeLayers(),
        },
        records: {
          get: async ({ digest }: BlobName) => this.records.get(digest),
          bind: async ({ digest }: BlobName, binding) => void this.records.set(digest, binding),
          store: async (_layer, digest, bytes) => void this.stored.set(digest, bytes),
        },
        freeBytes: async () => await this.freeBytes(),
        ...{ clusterKey: Buffer.alloc(32, 7), memberId: 'accelerator-1', nowMs: () => 5 },
        ...{ progress: { note: () => undefined }, onProgress: () => undefined },
        offers: new Offers({ source: this.images, referrers, log: this.log.logger }),
      },
      { kind: 'index', rule, upstream: 'local', repository: 'team/app', tag: 'app' },
      undefined,
      AbortSignal.timeout(60_000),
    );
    if (this.scratch.held !== 0) throw new Error('scratch is held');
    return outcome;
  }

  /** Attaches indexes to the image, as another cluster pushes them. */
  offer(indexes: readonly (readonly [Digest, Buffer])[]): void {
    const image = this.images.manifests.get('app')!;
    const places = indexes.map(([layer, bytes]) => {
      const index = digestOf(bytes);
      this.images.blobs.set(index, bytes);
      return { layer, diffId: layer, index, indexBytes: bytes.length };
    });
    const artifact = indexArtifact(image, places);
    this.images.manifests.set(artifact.digest, artifact);
    const { artifactType } = JSON.parse(artifact.bytes.toString()) as { artifactType: string };
    this.referrers.push({ digest: artifact.digest, artifactType });
  }
}

/** What a cluster makes of the layers without any offer. */
async function made(): Promise<readonly (readonly [Digest, Buffer])[]> {
  const other = new Cluster();
  t.match(await other.index(), { outcome: 'indexed', layers: 2, layersTaken: undefined });
  return other.layers.map(
    ({ digest }) => [digest, other.stored.get(other.records.get(digest)!.index!)!] as const,
  );
}

t.test('indexes of another cluster are taken, and come out the same', async (t) => {
  const indexes = await made();
  const here = new Cluster();
  here.referrers = [{ digest: digestOf(Buffer.from('a signature')), artifactType: 'x' }];
  here.offer(indexes);
  t.match(await here.index(), { outcome: 'indexed', layers: 2, layersTaken: 2 });
  t.equal(here.listed, 1, 'asked once for an image');
  for (const [layer, bytes] of indexes) {
    const { index, diffId } = here.records.get(layer)!;
    t.equal(index, digestOf(bytes));
    t.equal(diffId, readIndexHead(bytes).diffId, 'not what the artifact says');
    t.ok(here.images.reads.includes(layer), 'all of the layer was read');
  }
  t.match(await here.index(), { outcome: 'unchanged' });
  t.equal(here.listed, 1, 'what is on record needs no offer');
});

t.test('what is offered and does not fit is made, and the log says it', async (t) => {
  const indexes = await made();
  const [[first, good], [second, other]] = indexes as [(typeof indexes)[number], (typeof indexes)[number]];
  // A window of the first, or else its head, and the index of another layer for the second.
  const bad = Buffer.from(good);
  bad[readIndexHead(good).headBytes - 1]! ^= 1;
  const here = new Cluster();
  here.offer([
    [first, bad],
    [second, good],
  ]);
  t.match(await here.index(), { outcome: 'indexed', layers: 2, layersTaken: undefined });
  t.same(
    [first, second].map((layer) => here.records.get(layer)?.index),
    [digestOf(good), digestOf(other)],
  );
  t.equal(here.log.matching(/is not taken/).length, 2);
});

t.test('an offer is no reason to fail for want of disk: the index is made without it', async (t) => {
  const indexes = await made();
  const full = Object.assign(new Error('ENOSPC: no space left on device'), { code: 'ENOSPC' });
  const refuse = async (): Promise<never> => {
    throw full;
  };
  /** Room that refuses one thing. */
  const failing = (here: Cluster, what: 'append' | 'read') => async () => {
    const room = await here.scratch.make();
    return Object.defineProperty(room, what, { value: refuse });
  };
  const kinds: Record<string, (here: Cluster) => void> = {
    'too little is free': (here) => {
      here.freeBytes = async () => 256 * 1024 * 1024;
    },
    'nobody knows what is free': (here) => {
      here.freeBytes = refuse;
    },
    'a file cannot be made': (here) => {
      here.makeScratch = refuse;
    },
    'it is full meanwhile': (here) => {
      here.makeScratch = failing(here, 'append');
    },
    'others fill it meanwhile': (here) => {
      let looks = 0;
      here.freeBytes = async () => (++looks % 2 === 1 ? 1024 ** 4 : 0);
      here.makeScratch = async () =>
        Object.defineProperty(await here.scratch.make(), 'sizeBytes', { value: 64 * 1024 ** 2 });
    },
    'it cannot be read': (here) => {
      here.makeScratch = failing(here, 'read');
    },
  };
  for (const [kind, prepare] of Object.entries(kinds)) {
    const here = new Cluster();
    here.offer(indexes);
    prepare(here);
    t.match(await here.index(), { outcome: 'indexed', layers: 2, layersTaken: undefined }, kind);
    for (const [layer, bytes] of indexes) t.equal(here.records.get(layer)?.index, digestOf(bytes), kind);
    t.equal(here.log.matching(/is not taken/).length, 2, kind);
  }
  const wrong = new Cluster();
  wrong.offer(indexes);
  wrong.makeScratch = async () => {
    throw new TypeError('a bug');
  };
  await t.rejects(wrong.index(), TypeError);
});

t.test('offers that cannot be read are none', async (t) => {
  const indexes = await made();
  const gone = new Cluster();
  gone.offer(indexes);
  for (const [, bytes] of indexes) gone.images.blobs.delete(digestOf(bytes));
  t.match(await gone.index(), { outcome: 'indexed', layers: 2, layersTaken: undefined });
  const long = new Cluster();
  long.offer(indexes);
  const [artifact] = long.referrers;
  const document = long.images.manifests.get(artifact!.digest)!;
  const text = document.bytes.toString().replace(/"size":\d+/g, '"size":99999999999');
  long.images.manifests.set(artifact!.digest, { ...document, bytes: Buffer.from(text) });
  t.match(await long.index(), { outcome: 'indexed', layers: 2, layersTaken: undefined });
  const refused = new Cluster();
  refused.offer(indexes);
  refused.images.manifests.delete(refused.referrers[0]!.digest);
  t.match(await refused.index(), { outcome: 'indexed', layers: 2, layersTaken: undefined });
});

t.test('an offer that does not come is none, for every layer of its image', async (t) => {
  const here = new Cluster();
  here.offer(await made());
  const { images } = here;
  const source = {
    manifest: images.manifest.bind(images),
    blob: async (_blob: unknown, _take: unknown, signal?: AbortSignal) =>
      await new Promise<never>((_resolve, reject) => {
        signal?.addEventListener('abort', () => reject(signal.reason as Error));
      }),
  };
  const referrers = async () => here.referrers.map((one) => ({ mediaType: 'x', size: 1, ...one }));
  const offers = new Offers({ source, referrers, log: here.log.logger }, { limitMs: 1 });
  const { digest } = images.manifests.get('app')!;
  for (const layer of here.layers)
    t.equal(await offers.of(digest, layer.digest, new AbortController().signal), undefined);
  t.equal(here.log.matching(/cannot be read/).length, 2);
});

t.test('an index that a node complained of is made anew, not taken', async (t) => {
  const indexes = await made();
  const here = new Cluster();
  here.offer(indexes);
  await here.index();
  const [[layer]] = indexes as [(typeof indexes)[number]];
  const known = here.records.get(layer)!;
  here.records.set(layer, { ...known, bad: { index: known.index!, reason: 'x', by: 'node', atMs: 1 } });
  t.match(await here.index(BY_HAND), { outcome: 'indexed', layersTaken: undefined });
});

t.test('a bug in reading offers is not taken for a refusal', async (t) => {
  const here = new Cluster();
  const offers = new Offers({
    ...{ source: here.images, log: here.log.logger },
    referrers: async () => {
      throw new TypeError('a bug');
    },
  });
  const image: Pick<Image, 'digest'> = here.images.manifests.get('app')!;
  const never = new AbortController();
  await t.rejects(offers.of(image.digest, image.digest, never.signal), TypeError);
  const stopped = new CodedError('DRAINING');
  never.abort(stopped);
  await t.rejects(offers.of(image.digest, image.digest, never.signal), stopped);
});
