import { digestOf } from '@sepia/base/digest';
import { type CodedError, isCoded } from '@sepia/base/errors';
import type { BindingFacts } from '@sepia/cluster/api/layer-binding';
import { MAX_INDEX_BYTES } from '@sepia/cluster/api/layer-binding';
import { isReadableLayer } from '@sepia/lazy/convert/documents';
import type { ImageSource } from '@sepia/lazy/convert/ends';
import { layerImage } from '@sepia/lazy/erofs/layer-image';
import { readIndexHead } from '@sepia/lazy/index/layer-index';
import { LayerIndexer } from '@sepia/lazy/index/layer-indexer';
import type { ImageLayer } from './images.ts';

/** What was learned of a layer by reading all of it: its index, or why it has none. */
export type Learned = Pick<BindingFacts, 'diffId' | 'index' | 'indexBytes' | 'reason'> & {
  readonly bytes?: Buffer;
};

/**
 * Reads a whole layer, checks its digest, and makes its index. What is wrong with the layer itself is an answer, not an
 * error: it would be the same the next time.
 * @throws {CodedError} what the source throws, `DIGEST_MISMATCH` too
 */
export async function indexLayer(
  source: ImageSource,
  layer: ImageLayer,
  onProgress: (bytes: number) => void,
  signal: AbortSignal,
): Promise<Learned> {
  if (!isReadableLayer(layer.mediaType)) return { reason: `it is no tar: ${layer.mediaType.slice(0, 200)}` };
  const indexer = new LayerIndexer();
  let refusal: CodedError | undefined;
  let bytes = 0;
  await source.blob(
    layer,
    async (chunk) => {
      bytes += chunk.length;
      onProgress(bytes);
      if (refusal === undefined) refusal = refusalOf(() => indexer.push(chunk));
    },
    signal,
  );
  let made: ReturnType<LayerIndexer['end']> | undefined;
  refusal ??= refusalOf(() => {
    made = indexer.end();
    layerImage(readIndexHead(made.bytes));
  });
  if (refusal !== undefined || made === undefined) return { reason: reasonOf(refusal) };
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
function refusalOf(step: () => void): CodedError | undefined {
  try {
    step();
    return undefined;
  } catch (error) {
    if (isCoded(error, 'LAYER_NOT_LAZY') || isCoded(error, 'LAYER_INVALID')) return error;
    throw error;
  }
}

function reasonOf(error: CodedError | undefined): string {
  if (error === undefined) return 'it has no content';
  const what = [error.detail['reason'], error.detail['path']].filter((one) => one !== undefined).join(': ');
  return `${error.message}${what === '' ? '' : ` (${what})`}`.slice(0, 1_000);
}
