import { createHash } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import { type Digest, Digester } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { inflateMembers, type ReadAt } from '../pack/inflate.ts';
import { SPAN_BOUNDS, type SpanBounds } from '../span-bounds.ts';
import { invalidIndex } from './byte-reader.ts';
import { EntryList } from './entry-list.ts';
import {
  compressedRange,
  type LayerHead,
  type LayerSpan,
  readIndexSpans,
  type SpanToWrite,
  writeIndex,
} from './layer-index.ts';
import type { MadeIndex } from './layer-indexer.ts';
import { readSpan } from './read-span.ts';

/** A whole layer whose digest was checked. */
interface CheckedLayer {
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly read: ReadAt;
}

interface Hears {
  /** Told of uncompressed bytes; throws where they are too many. */
  readonly onUnpacked: (bytes: number) => void;
  /** Waited for once, where the layer turns out to be large: see `LargeLayers`. */
  readonly onLarge: () => Promise<void>;
  /** Told which share of the work is done. */
  readonly onShare: (share: number) => void;
  /** Ends it with its reason. */
  readonly signal: AbortSignal;
}

/**
 * The index of a gzip layer, made with the places of another where decompression can begin. Nothing else of that one is
 * believed: all of the layer is decompressed from its start, for its diffID, its entries and the SHA-256 of each span, and
 * each span once more from its own place, with its window, as a node would: both must give the same. So the result is as
 * good as one of {@link LayerIndexer}, whoever made the offer; where the same Sepia made that, it is the same to the byte.
 * Whatever else waits in the process has its turn after a megabyte or so.
 * @throws {CodedError} `INDEX_INVALID` or `DIGEST_MISMATCH` where the offer is wrong, `LAYER_NOT_LAZY`, `LAYER_INVALID`
 */
export async function checkedIndex(
  layer: CheckedLayer,
  offer: Buffer,
  { onUnpacked, onLarge, onShare, signal }: Hears,
  bounds: SpanBounds = SPAN_BOUNDS,
): Promise<MadeIndex> {
  const head = readIndexSpans(offer);
  assertOffer(layer, offer, head, bounds);
  const entries = new EntryList();
  const diffId = new Digester();
  const sums = new SpanSums(head.spans);
  let isLarge = false;
  await inflateMembers(layer.read, 0, layer.sizeBytes, async (raw) => {
    signal.throwIfAborted();
    onUnpacked(raw.length);
    sums.push(raw);
    onShare(Math.min(1, sums.length / head.uncompressedBytes) / 2);
    diffId.update(raw);
    entries.push(raw);
    if (isLarge || !entries.isLarge) return;
    isLarge = true;
    await onLarge();
  });
  const made = { layer: layer.digest, diffId: diffId.digest(), compression: head.compression };
  if (made.diffId !== head.diffId || sums.length !== head.uncompressedBytes) wrong(layer.digest);
  const spans: SpanToWrite[] = [];
  for (const [number, span] of head.spans.entries()) {
    await setImmediate();
    signal.throwIfAborted();
    const { compressedBit, offset, length, sha256, windowOffset, windowLength } = span;
    if (!sums.found[number]!.equals(sha256)) wrong(layer.digest, number);
    const window = Buffer.from(offer.subarray(windowOffset, windowOffset + windowLength));
    const { start, end } = compressedRange(head, number);
    await readSpan(head, number, Buffer.from(await layer.read(start, end - start)), window);
    spans.push({ compressedBit, offset, length, sha256, window });
    onShare((1 + (offset + length) / head.uncompressedBytes) / 2);
  }
  const { compressedBytes, uncompressedBytes } = head;
  const bytes = writeIndex({ ...made, entries: entries.end(), spans, compressedBytes, uncompressedBytes });
  return { ...made, bytes };
}

/** Refuses an offer that is not of this layer, or cuts it otherwise than indexes do: that would cost nodes work at every read. */
function assertOffer(
  { digest, sizeBytes }: CheckedLayer,
  offer: Buffer,
  head: LayerHead,
  { spanBytes, maxSpanBytes }: SpanBounds,
): void {
  if (head.compression !== 'gzip' || head.layer !== digest || head.compressedBytes !== sizeBytes)
    invalidIndex('it is of another layer');
  if (offer.length < head.indexBytes) invalidIndex('it is cut short');
  for (const [number, { length }] of head.spans.entries()) {
    const { start, end } = compressedRange(head, number);
    const isLast = number === head.spans.length - 1;
    if (length > maxSpanBytes || end - start > maxSpanBytes + 1 || (!isLast && length < spanBytes / 2))
      invalidIndex('length of a span');
  }
}

/** SHA-256 of each span of what comes. */
class SpanSums {
  readonly found: Buffer[] = [];
  readonly #spans: readonly LayerSpan[];
  #hash = createHash('sha256');
  #left: number;
  length = 0;

  constructor(spans: readonly LayerSpan[]) {
    this.#spans = spans;
    this.#left = spans[0]?.length ?? Number.POSITIVE_INFINITY;
  }

  push(raw: Uint8Array): void {
    this.length += raw.length;
    for (let at = 0; at < raw.length; ) {
      const part = raw.subarray(at, at + this.#left);
      this.#hash.update(part);
      at += part.length;
      this.#left -= part.length;
      if (this.#left > 0) continue;
      this.found.push(this.#hash.digest());
      this.#hash = createHash('sha256');
      this.#left = this.#spans[this.found.length]?.length ?? Number.POSITIVE_INFINITY;
    }
  }
}

function wrong(layer: Digest, span?: number): never {
  throw new CodedError('DIGEST_MISMATCH', {
    message: 'an index that was offered does not fit its layer',
    detail: { layer, ...(span === undefined ? {} : { span }) },
  });
}
