import { setImmediate } from 'node:timers/promises';
import { digestOf } from '@sepia/base/digest';
import { type CodedError, isCoded } from '@sepia/base/errors';
import type { BindingFacts } from '@sepia/cluster/api/layer-binding';
import { MAX_INDEX_BYTES } from '@sepia/cluster/api/layer-binding';
import { isReadableLayer } from '@sepia/lazy/convert/documents';
import type { ImageSource } from '@sepia/lazy/convert/ends';
import type { LargeLayers } from '@sepia/lazy/convert/large-layers';
import type { MakeScratch, Scratch } from '@sepia/lazy/convert/scratch';
import type { WorkLimits } from '@sepia/lazy/convert/work-limits';
import { indexWithImage } from '@sepia/lazy/erofs/image-part';
import { readIndexHead } from '@sepia/lazy/index/layer-index';
import { LayerIndexer, type MadeIndex } from '@sepia/lazy/index/layer-indexer';
import { BOOTSTRAP_NAME } from '@sepia/lazy/rafs/bootstrap-layer';
import type { ImageLayer } from './images.ts';

/** What was learned of a layer by reading all of it: its index, or why it has none. */
export type Learned = Pick<BindingFacts, 'kind' | 'diffId' | 'index' | 'indexBytes' | 'reason'> & {
  readonly bytes?: Buffer;
};

/** Longest reason of a record. */
export const MAX_REASON = 1_000;

interface Deps {
  readonly source: ImageSource;
  readonly largeLayers: LargeLayers;
  readonly scratch: MakeScratch;
  readonly limits: Pick<WorkLimits, 'came' | 'unpacked'>;
  readonly onProgress: (bytes: number) => void;
}

/** A layer is read in parts of this length, for a part may become a thousand times as long and more while nothing else runs. */
const PART_BYTES = 16 * 1024;
const TURN_BYTES = 1024 * 1024;

/**
 * Reads a whole layer while it comes, checks its digest, and makes its index. The rest of one that turns out to be large waits
 * in `scratch` until all of it is there: others have the room as long as an upstream is slow. What is wrong with the layer
 * itself is an answer, not an error: it would be the same the next time.
 * @throws {CodedError} what the source throws, `DIGEST_MISMATCH` too
 */
export async function indexLayer(deps: Deps, layer: ImageLayer, signal: AbortSignal): Promise<Learned> {
  if (!isReadableLayer(layer.mediaType)) return { reason: `it is no tar: ${layer.mediaType.slice(0, 200)}` };
  using claim = deps.largeLayers.claim(signal);
  const indexer = new LayerIndexer();
  let refusal: CodedError | undefined;
  let bytes = 0;
  const read = async (part: Uint8Array): Promise<void> => {
    const before = indexer.uncompressedBytes;
    refusal = refusalOf(() => indexer.push(part));
    const unpacked = indexer.uncompressedBytes - before;
    deps.limits.unpacked(unpacked);
    if (unpacked > TURN_BYTES) await setImmediate();
  };
  await using held = new AsyncDisposableStack();
  let rest: Scratch | undefined;
  let isPulled = false;
  const take = async (chunk: Uint8Array): Promise<void> => {
    for (let at = 0; at < chunk.length && refusal === undefined; at += PART_BYTES) {
      if (!isPulled && indexer.isLarge) {
        rest ??= held.use(await deps.scratch());
        return await rest.append(chunk.subarray(at));
      }
      await read(chunk.subarray(at, at + PART_BYTES));
    }
  };
  await deps.source.blob(
    layer,
    async (chunk) => {
      bytes += chunk.length;
      deps.limits.came(chunk.length);
      deps.onProgress(bytes);
      await take(chunk);
    },
    signal,
  );
  isPulled = true;
  if (refusal === undefined && indexer.isLarge) await claim.take();
  for await (const chunk of rest?.stream() ?? []) {
    signal.throwIfAborted();
    await take(chunk as Buffer);
  }
  return refusal === undefined ? learnedFrom(() => indexer.end()) : { reason: reasonOf(refusal) };
}

/** What is learned of an ordinary layer with its index, to which its image is added. */
export function learnedFrom(end: () => MadeIndex): Learned {
  let made: MadeIndex | undefined;
  let isBootstrap = false;
  const refusal = refusalOf(() => {
    const plain = end();
    const index = readIndexHead(plain.bytes);
    isBootstrap = index.entries.some(({ path, type }) => type === 'file' && path === BOOTSTRAP_NAME);
    made = { ...plain, bytes: indexWithImage(plain.bytes, index) };
  });
  if (refusal !== undefined || made === undefined) return { reason: reasonOf(refusal) };
  // Shown as a tar, it would stand in the way of the image whose bootstrap it has.
  if (isBootstrap) return { diffId: made.diffId, reason: 'it has the bootstrap of a Nydus image' };
  return learnedOf(made);
}

/** An index as it goes on record, or that it is too long for that. */
export function learnedOf(made: MadeIndex): Learned {
  if (made.bytes.length > MAX_INDEX_BYTES)
    return { diffId: made.diffId, reason: `its index would have ${made.bytes.length} bytes` };
  return {
    diffId: made.diffId,
    index: digestOf(made.bytes),
    indexBytes: made.bytes.length,
    bytes: made.bytes,
  };
}

/** What the layer is refused for; other errors are thrown. */
export function refusalOf(step: () => void): CodedError | undefined {
  try {
    step();
    return undefined;
  } catch (error) {
    if (isCoded(error, 'LAYER_NOT_LAZY') || isCoded(error, 'LAYER_INVALID')) return error;
    throw error;
  }
}

/** A refusal in words that fit into a record. */
export function reasonOf(error: CodedError | undefined): string {
  if (error === undefined) return 'it has no content';
  const what = [error.detail['reason'], error.detail['path']].filter((one) => one !== undefined).join(': ');
  return `${error.message}${what === '' ? '' : ` (${what})`}`.slice(0, MAX_REASON);
}
