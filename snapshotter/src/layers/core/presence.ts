/** Where files lie in an image and in the uncompressed layer; sorted by both, and in neither do they overlap. */
interface Extents {
  readonly image: Float64Array;
  readonly layer: Float64Array;
  readonly length: Float64Array;
}

/** How the spans of a layer lie in its image. */
export interface PresenceLayout {
  /** Where each span begins in the uncompressed layer, ascending, from 0. */
  readonly spanOffsets: Float64Array;
  readonly uncompressedBytes: number;
  readonly extents: Extents;
  /** Metadata at the image's start: always there. */
  readonly metaBytes: number;
  readonly imageBytes: number;
}

/** A piece of a span that belongs into the image. */
export interface Placement {
  /** Where it is in the span's bytes. */
  readonly from: number;
  /** Where it goes in the image. */
  readonly to: number;
  readonly length: number;
}

/** Bytes of a block of the image that the kernel reads: what is there is noted by block. */
export const IMAGE_BLOCK = 4096;

/**
 * Which spans of a layer are on disk, and so which 4 KiB blocks of its image. A block is there when all spans are that
 * its bytes come from. Bits of spans: bit `n % 8` of byte `n >> 3`; of blocks: bit `n % 32` of word `n >> 5`, shared with
 * the thread that reads.
 */
export class Presence {
  readonly #layout: PresenceLayout;
  readonly spans: Uint8Array;
  readonly blocks: Int32Array;
  #count = 0;

  constructor(layout: PresenceLayout, blocks: SharedArrayBuffer) {
    this.#layout = layout;
    this.spans = new Uint8Array(Math.ceil(layout.spanOffsets.length / 8));
    this.blocks = new Int32Array(blocks);
    for (let block = 0; block * IMAGE_BLOCK < layout.metaBytes; block++) this.#setBlock(block);
  }

  /** Bytes that the bits of an image's blocks take. */
  static blockBytes(imageBytes: number): number {
    return Math.max(4, Math.ceil(imageBytes / IMAGE_BLOCK / 32) * 4);
  }

  /** Spans that are there. */
  get count(): number {
    return this.#count;
  }

  get isComplete(): boolean {
    return this.#count === this.#layout.spanOffsets.length;
  }

  has(span: number): boolean {
    return (this.spans[span >> 3]! & (1 << (span & 7))) !== 0;
  }

  /** The first spans that are not there and neighbours, at most `most`. */
  firstMissing(most: number): { first: number; last: number } | undefined {
    const spans = this.#layout.spanOffsets.length;
    let first = 0;
    while (first < spans && this.has(first)) first += 1;
    if (first === spans) return undefined;
    let last = first;
    while (last + 1 < spans && last + 1 - first < most && !this.has(last + 1)) last += 1;
    return { first, last };
  }

  /** The span's bytes are in the image file: its blocks can be read. */
  add(span: number): void {
    if (this.has(span)) return;
    this.spans[span >> 3]! |= 1 << (span & 7);
    this.#count += 1;
    for (const { to, length, extent } of this.#placements(span)) {
      const last = Math.floor((to + length - 1) / IMAGE_BLOCK);
      for (let block = Math.floor(to / IMAGE_BLOCK); block <= last; block++)
        if (this.#isWhole(block, extent)) this.#setBlock(block);
    }
  }

  /** The span is to be fetched again: no block that has bytes of it can be read. */
  drop(span: number): void {
    if (!this.has(span)) return;
    this.spans[span >> 3]! &= ~(1 << (span & 7));
    this.#count -= 1;
    for (const { to, length } of this.#placements(span)) {
      const last = Math.floor((to + length - 1) / IMAGE_BLOCK);
      for (let block = Math.floor(to / IMAGE_BLOCK); block <= last; block++)
        Atomics.and(this.blocks, block >> 5, ~(1 << (block & 31)));
    }
  }

  /** Where a span's bytes go; headers and padding of the tar go nowhere. */
  placements(span: number): Placement[] {
    return [...this.#placements(span)].map(({ from, to, length }) => ({ from, to, length }));
  }

  /** The spans that `[offset, offset + length)` of the image needs and that are not there, ascending. */
  missing(offset: number, length: number): number[] {
    return this.#needed(offset, length).filter((span) => !this.has(span));
  }

  /** Those of them that are there. */
  present(offset: number, length: number): number[] {
    return this.#needed(offset, length).filter((span) => this.has(span));
  }

  #needed(offset: number, length: number): number[] {
    const { extents } = this.#layout;
    const end = offset + length;
    const needed = new Set<number>();
    for (
      let extent = firstAfter(extents.image, extents.length, offset);
      extent < extents.image.length;
      extent++
    ) {
      const start = extents.image[extent]!;
      if (start >= end) break;
      const from = extents.layer[extent]! + Math.max(0, offset - start);
      const to = extents.layer[extent]! + Math.min(extents.length[extent]!, end - start);
      for (let span = this.#spanAt(from); span <= this.#spanAt(to - 1); span++) needed.add(span);
    }
    return [...needed].sort((a, b) => a - b);
  }

  *#placements(span: number): Generator<Placement & { extent: number }> {
    const { extents } = this.#layout;
    const start = this.#layout.spanOffsets[span]!;
    const end = this.#endOf(span);
    for (
      let extent = firstAfter(extents.layer, extents.length, start);
      extent < extents.layer.length;
      extent++
    ) {
      const layer = extents.layer[extent]!;
      if (layer >= end) break;
      const from = Math.max(start, layer);
      const length = Math.min(end, layer + extents.length[extent]!) - from;
      yield { from: from - start, to: extents.image[extent]! + from - layer, length, extent };
    }
  }

  #isWhole(block: number, extent: number): boolean {
    const { image, layer, length } = this.#layout.extents;
    const start = block * IMAGE_BLOCK - image[extent]!;
    const end = Math.min(start + IMAGE_BLOCK, length[extent]!);
    const last = this.#spanAt(layer[extent]! + end - 1);
    for (let span = this.#spanAt(layer[extent]! + start); span <= last; span++)
      if (!this.has(span)) return false;
    return true;
  }

  #endOf(span: number): number {
    return this.#layout.spanOffsets[span + 1] ?? this.#layout.uncompressedBytes;
  }

  #spanAt(offset: number): number {
    return Math.max(0, lastAtMost(this.#layout.spanOffsets, offset));
  }

  #setBlock(block: number): void {
    Atomics.or(this.blocks, block >> 5, 1 << (block & 31));
  }
}

/** Index of the last of ascending numbers that is at most `value`; -1 where all are above. */
export function lastAtMost(sorted: Float64Array, value: number): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle]! <= value) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

/** The first extent that ends after `at`. */
function firstAfter(starts: Float64Array, lengths: Float64Array, at: number): number {
  let low = 0;
  let high = starts.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (starts[middle]! + lengths[middle]! <= at) low = middle + 1;
    else high = middle;
  }
  return low;
}
