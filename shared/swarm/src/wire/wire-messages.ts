import type { Writable } from 'node:stream';
import { LEAF_BYTES, PIECE_BYTES } from '@sepia/metainfo/tree';

/** Message ids of BEP 3, BEP 6 and BEP 10 by what they are called there. */
export const ID = Object.freeze({
  choke: 0,
  unchoke: 1,
  interested: 2,
  notInterested: 3,
  have: 4,
  bitfield: 5,
  request: 6,
  cancel: 8,
  port: 9,
  suggest: 13,
  haveAll: 14,
  haveNone: 15,
  reject: 16,
  allowedFast: 17,
  extended: 20,
});

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

/** The block of a {@link blockKey}. */
export function blockOf(key: number): { readonly index: number; readonly offset: number } {
  const leaves = PIECE_BYTES / LEAF_BYTES;
  return { index: Math.floor(key / leaves), offset: (key % leaves) * LEAF_BYTES };
}

/** A message of an id and numbers (u32, big-endian), with its length in front; `tail` is copied. */
export function message(id: number, numbers: readonly number[] = [], tail?: Uint8Array): Uint8Array {
  const bytes = Buffer.allocUnsafe(5 + numbers.length * 4 + (tail?.length ?? 0));
  bytes.writeUInt32BE(bytes.length - 4, 0);
  bytes[4] = id;
  for (let i = 0; i < numbers.length; i++) bytes.writeUInt32BE(numbers[i]!, 5 + i * 4);
  if (tail !== undefined) bytes.set(tail, 5 + numbers.length * 4);
  return bytes;
}

/** A handshake (BEP 3). Of the reserved bits only that of the fast extension is set (BEP 6). */
export function plainHandshake(infoHash: Uint8Array, peerId: Uint8Array): Uint8Array {
  const bytes = Buffer.alloc(68);
  bytes[0] = 19;
  bytes.write('BitTorrent protocol', 1, 'latin1');
  bytes[27] = FAST_BIT;
  bytes.set(infoHash, 28);
  bytes.set(peerId, 48);
  return bytes;
}

/** Bit of the last reserved byte of the handshake: the fast extension (BEP 6). */
export const FAST_BIT = 0x04;

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
