import type { Digest } from '@sepia/base/digest';
import type { ImageSource } from '@sepia/lazy/convert/ends';
import type { LargeLayers } from '@sepia/lazy/convert/large-layers';
import type { MakeScratch, Scratch } from '@sepia/lazy/convert/scratch';
import {
  bootstrapOf,
  type NydusBootstrap,
  verifyBootstrap,
  verifyNydusBlob,
} from '@sepia/lazy/convert/verify-nydus';
import type { WorkLimits } from '@sepia/lazy/convert/work-limits';
import { indexWithImage } from '@sepia/lazy/erofs/image-part';
import type { VerifyResult } from '@sepia/lazy/estargz/check-layer';
import type { MadeIndex } from '@sepia/lazy/index/layer-indexer';
import { blobIndex, NydusIndexer } from '@sepia/lazy/rafs/nydus-index';
import type { Image, ImageLayer } from './images.ts';
import { type Learned, learnedOf, MAX_REASON, reasonOf, refusalOf } from './index-layer.ts';

interface Deps {
  readonly source: ImageSource;
  readonly scratch: MakeScratch;
  readonly largeLayers: LargeLayers;
  readonly limits: Pick<WorkLimits, 'came' | 'unpacked'>;
}

/** What a layer is in a Nydus image; undefined for all layers of other images. */
export function nydusKindOf(image: Image): ((layer: ImageLayer) => NonNullable<Learned['kind']>) | undefined {
  const last = bootstrapOf(image.layers.map(({ descriptor }) => descriptor));
  if (last === undefined) return undefined;
  return ({ digest }) => (digest === last.digest ? 'nydus-bootstrap' : 'nydus-blob');
}

/** What is learned of a Nydus image. */
interface Reading {
  readonly image: Image;
  readonly bootstrap: NydusBootstrap;
  readonly indexer: NydusIndexer | undefined;
  readonly limits: Deps['limits'];
  /** Lengths of data blobs by their ids. */
  readonly sizes: Map<string, number>;
}

/**
 * Reads a whole Nydus image, layer by layer, as `sepia lazy verify` does: every digest of a blob, a chunk and a table. The
 * layer with the bootstrap gets the index of all, data blobs get that of an empty tree. What a layer is, its bytes say: a
 * tar never passes for a data blob, whatever the manifest calls it. All layers are in `scratch`, pulled before one is read.
 * @returns what was learned of each layer, by its digest: index, or why it has none
 * @throws {CodedError} what the source throws
 */
export async function indexNydus(
  deps: Deps,
  image: Image,
  onProgress: (layer: ImageLayer, bytes: number) => void,
  signal: AbortSignal,
): Promise<ReadonlyMap<Digest, Learned>> {
  await using pulled = new AsyncDisposableStack();
  const layers = new Map<Digest, { readonly layer: ImageLayer; readonly packed: Scratch }>();
  for (const layer of image.layers) {
    if (layers.has(layer.digest)) continue;
    const packed = pulled.use(await deps.scratch());
    layers.set(layer.digest, { layer, packed });
    const take = async (chunk: Uint8Array): Promise<void> => {
      deps.limits.came(chunk.length);
      await packed.append(chunk);
      onProgress(layer, packed.sizeBytes);
    };
    await deps.source.blob(layer, take, signal);
  }
  // A small layer may hold tables of any number of files. Others have the room as long as an upstream is slow.
  using claim = deps.largeLayers.claim(signal);
  await claim.take();
  const last = image.layers.at(-1)!;
  const bootstrap = await bootstrapIn(image, layers.get(last.digest)!.packed);
  let indexer: NydusIndexer | undefined;
  const refusal = refusalOf(() => {
    if (bootstrap.read !== undefined) indexer = new NydusIndexer(bootstrap.read.bootstrap);
  });
  const reading: Reading = { image, bootstrap, indexer, limits: deps.limits, sizes: new Map() };
  const learned = new Map<Digest, Learned>();
  for (const { layer, packed } of layers.values())
    if (layer.digest !== last.digest) learned.set(layer.digest, await blobOf(reading, layer, packed));
  const broken = [...learned].find(([, { reason }]) => reason !== undefined);
  const reason =
    faultOf(bootstrap.result) ??
    (refusal === undefined ? undefined : reasonOf(refusal)) ??
    (broken === undefined ? undefined : `its data blob ${broken[0]}: ${broken[1].reason}`);
  learned.set(last.digest, {
    kind: 'nydus-bootstrap',
    ...(reason === undefined ? indexOf(reading, last) : { reason: reason.slice(0, MAX_REASON) }),
  });
  return learned;
}

async function bootstrapIn({ layers }: Image, packed: Scratch): Promise<NydusBootstrap> {
  const { descriptor } = layers.at(-1)!;
  return await verifyBootstrap(
    descriptor,
    packed,
    layers.map((layer) => layer.descriptor),
    undefined,
  );
}

async function blobOf(
  { bootstrap, indexer, limits, sizes }: Reading,
  { descriptor, digest }: ImageLayer,
  packed: Scratch,
): Promise<Learned> {
  const { sizeBytes } = packed;
  const told = {
    content: indexer && ((...own: Parameters<NydusIndexer['content']>) => indexer.content(...own)),
    unpacked: (bytes: number) => limits.unpacked(bytes),
  };
  const reason = faultOf(await verifyNydusBlob(descriptor, packed, bootstrap, digest, told));
  if (reason !== undefined) return { kind: 'nydus-blob', reason };
  sizes.set(digest.slice('sha256:'.length), sizeBytes);
  return { kind: 'nydus-blob', ...learnedOf(blobIndex({ layer: digest, sizeBytes })) };
}

function indexOf({ bootstrap, indexer, sizes }: Reading, { digest, sizeBytes }: ImageLayer): Learned {
  const { diffId } = bootstrap.read!;
  let made: MadeIndex | undefined;
  const refusal = refusalOf(() => {
    const plain = indexer!.end({ layer: digest, diffId, sizeBytes }, sizes);
    made = { ...plain, bytes: indexWithImage(plain.bytes) };
  });
  if (refusal !== undefined || made === undefined) return { diffId, reason: reasonOf(refusal) };
  return learnedOf(made);
}

/** The first of what is wrong. */
function faultOf({ findings: [finding] }: VerifyResult): string | undefined {
  return finding?.message.slice(0, MAX_REASON);
}
