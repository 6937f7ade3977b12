import type { FilePart } from '@sepia/cluster/core/path-line';
import { IMAGE_BLOCK } from './presence.ts';

/** Where the files of an image lie, ascending. */
interface Places {
  readonly image: Float64Array;
  readonly length: Float64Array;
}

/** A file that was read, and in which of the daemon's reads first. */
export interface ReadFile {
  readonly path: string;
  readonly turn: number;
  /** Of a large file: what of it was read. */
  readonly part?: FilePart;
}

/** A file that was read, by its number among the files with content. */
export interface FirstRead {
  readonly extent: number;
  /** Of a large file: what of it was read. */
  readonly part?: FilePart;
  /** The read that was the first of it, counted over all layers from 1. */
  readonly turn: number;
}

/** Larger files are told by their parts: a program of 100 MB reads a third of itself, here and there. */
const WHOLE_BYTES = 4 * 1024 * 1024;
const PART_BYTES = 1024 * 1024;

/** Bytes of the turns of an image: one number of 32 bits a block. */
export function turnBytes(imageBytes: number): number {
  return Math.max(1, Math.ceil(imageBytes / IMAGE_BLOCK)) * 4;
}

/** Files, and parts of large ones, of which something was asked for, in the order of their first reads; those of one read as they lie. */
export function firstReads(turns: Int32Array, places: Places): FirstRead[] {
  const found: FirstRead[] = [];
  for (let extent = 0; extent < places.image.length; extent++) {
    const start = places.image[extent]!;
    const bytes = places.length[extent]!;
    const step = bytes <= WHOLE_BYTES ? bytes : PART_BYTES;
    for (let offset = 0; offset < bytes; offset += step) {
      const length = Math.min(step, bytes - offset);
      const turn = firstTurn(turns, start + offset, length);
      if (turn === 0) continue;
      found.push(length === bytes ? { extent, turn } : { extent, turn, part: { offset, length } });
    }
  }
  // They were found as they lie, and those of one turn stay so.
  return found.sort((a, b) => a.turn - b.turn);
}

/** The first turn in which one of these blocks, all of the image, was read; 0: none was. */
function firstTurn(turns: Int32Array, offset: number, length: number): number {
  const last = Math.floor((offset + length - 1) / IMAGE_BLOCK);
  let turn = 0;
  for (let block = Math.floor(offset / IMAGE_BLOCK); block <= last; block++) {
    const here = turns[block]!;
    if (here !== 0 && (turn === 0 || here < turn)) turn = here;
  }
  return turn;
}
