import { IMAGE_BLOCK } from './presence.ts';

/** Where the files of an image lie, ascending. */
interface Places {
  readonly image: Float64Array;
  readonly length: Float64Array;
}

/** A file that was read, by its number among the files with content. */
export interface FirstRead {
  readonly extent: number;
  /** The read that was the first of it, counted over all layers from 1. */
  readonly turn: number;
}

/** Bytes of the turns of an image: one number of 32 bits a block. */
export function turnBytes(imageBytes: number): number {
  return Math.max(1, Math.ceil(imageBytes / IMAGE_BLOCK)) * 4;
}

/** Files of which something was asked for, in the order of their first reads; those of one read as they lie. */
export function firstReads(turns: Int32Array, places: Places): FirstRead[] {
  const found: FirstRead[] = [];
  for (let extent = 0; extent < places.image.length; extent++) {
    const start = places.image[extent]!;
    const last = Math.floor((start + places.length[extent]! - 1) / IMAGE_BLOCK);
    let turn = 0;
    for (let block = Math.floor(start / IMAGE_BLOCK); block <= last; block++) {
      const here = turns[block] ?? 0;
      if (here !== 0 && (turn === 0 || here < turn)) turn = here;
    }
    if (turn !== 0) found.push({ extent, turn });
  }
  return found.sort((a, b) => a.turn - b.turn || a.extent - b.extent);
}
