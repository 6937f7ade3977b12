import type { Writable } from 'node:stream';
import { LEAF_BYTES, PIECE_BYTES } from '@sepia/metainfo/tree';

/** Exact lengths of messages with the id in front (BEP 3, BEP 6). */
export const FIXED_LENGTHS: Readonly<Record<number, number>> = Object.freeze({
  0: 1,
  1: 1,
  2: 1,
  3: 1,
  4: 5,
  6: 13,
  8: 13,
  13: 5,
  14: 1,
  15: 1,
  16: 13,
  17: 5,
});

/** One number for (piece, offset): offsets of blocks are multiples of a leaf, 64 to a piece. */
export function blockKey(index: number, offset: number): number {
  return index * (PIECE_BYTES / LEAF_BYTES) + offset / LEAF_BYTES;
}

/** Writes a `piece` message (BEP 3): its 13 bytes of head and the block, which is not copied. */
export function writeBlock(
  socket: Writable,
  block: { readonly index: number; readonly offset: number; readonly bytes: Uint8Array },
  onTaken: () => void,
): void {
  const head = Buffer.allocUnsafe(13);
  head.writeUInt32BE(9 + block.bytes.length, 0);
  head[4] = 7;
  head.writeUInt32BE(block.index, 5);
  head.writeUInt32BE(block.offset, 9);
  socket.write(head);
  socket.write(block.bytes, onTaken);
}
