import { IMAGE_BLOCK, type Placement } from './presence.ts';

/** Bytes that go into the image in one piece. */
export interface ImageWrite {
  /** Where they go in the image. */
  readonly to: number;
  readonly bytes: Uint8Array;
}

/** What one write may hold in memory of its own. */
const MOST_BYTES = 1024 * 1024;

/**
 * The pieces of a span as few writes: small files lie one behind the other in the image, each from a whole block on, so
 * what is between the end of one and the start of the next is written along, as the zeros that it is.
 * @throws {RangeError} for pieces of files that share bytes of the layer, which no index has
 */
export function joinedWrites(placements: readonly Placement[], span: Uint8Array): ImageWrite[] {
  if (placements.some(({ length }) => length <= 0)) throw new RangeError('files share bytes of the layer');
  const writes: ImageWrite[] = [];
  for (let first = 0; first < placements.length; ) {
    let last = first;
    while (isBehind(placements, last) && endOf(placements[last + 1]!) - placements[first]!.to <= MOST_BYTES)
      last += 1;
    writes.push(writeOf(placements.slice(first, last + 1), span));
    first = last + 1;
  }
  return writes;
}

/** The next piece begins behind the padding of this one, which is whole: the bytes between them are nobody's. */
function isBehind(placements: readonly Placement[], at: number): boolean {
  const one = placements[at]!;
  const next = placements[at + 1];
  if (next === undefined) return false;
  const gap = next.to - endOf(one);
  return gap >= 0 && gap < IMAGE_BLOCK;
}

function writeOf(placements: readonly Placement[], span: Uint8Array): ImageWrite {
  const { to, from, length } = placements[0]!;
  if (placements.length === 1) return { to, bytes: span.subarray(from, from + length) };
  const bytes = new Uint8Array(endOf(placements.at(-1)!) - to);
  for (const one of placements) bytes.set(span.subarray(one.from, one.from + one.length), one.to - to);
  return { to, bytes };
}

function endOf({ to, length }: Placement): number {
  return to + length;
}
