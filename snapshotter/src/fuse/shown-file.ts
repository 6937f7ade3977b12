import { createHash } from 'node:crypto';
import type { FileFacts } from './messages.ts';

/** A file of the mount, as the worker knows it. */
export interface ShownFile extends FileFacts {
  /** The file on disk that holds its content as far as it is there; open in this process. */
  readonly fd: number;
  /** One bit per 4 KiB block that is there (bit `n % 32` of word `n >> 5`); both threads see it. */
  readonly blocks: SharedArrayBuffer;
  /** CRC-32 of each block as it was written: what is read is compared with it. */
  readonly sums: SharedArrayBuffer;
  /** A number of 32 bits per block: the turn in which the worker read it first, 0 for never. */
  readonly turns: SharedArrayBuffer;
}

/** From the main thread to the worker. */
export type ToWorker =
  | { readonly type: 'show'; readonly file: ShownFile }
  | { readonly type: 'hide'; readonly name: string }
  /** `last`: the look-up that is the last to be answered. */
  | { readonly type: 'stop'; readonly last: string };

/** From the worker to the main thread. */
export type FromWorker =
  | { readonly type: 'ready' }
  | {
      readonly type: 'miss';
      readonly unique: Uint8Array;
      readonly name: string;
      readonly offset: number;
      readonly size: number;
    }
  | { readonly type: 'disk-failed'; readonly name: string; readonly code: string }
  | { readonly type: 'ended'; readonly why: 'stopped' | 'unmounted' };

/**
 * A file's node id in hex as the wire has it. It must be the same in the next process, which goes on with the kernel's
 * node ids: it is made of the name.
 */
export function keyOf(name: string): string {
  const id = createHash('sha256').update(name).digest().subarray(0, 8);
  // Never 0 or 1 (the root), never negative.
  id[7] = 0x40;
  return id.toString('hex');
}

/** True if all blocks of `[offset, offset + length)` are there. */
export function hasBlocks(blocks: Int32Array, offset: number, length: number): boolean {
  const last = Math.floor((offset + length - 1) / 4096);
  for (let block = Math.floor(offset / 4096); block <= last; block++) {
    if ((Atomics.load(blocks, block >> 5) & (1 << (block & 31))) === 0) return false;
  }
  return true;
}

/** Notes that `[offset, offset + length)` of a file was asked for in this turn; the first turn of a block stays. */
export function noteRead(turns: Int32Array, turn: number, offset: number, length: number): void {
  const last = Math.min(turns.length - 1, Math.floor((offset + length - 1) / 4096));
  for (let block = Math.floor(offset / 4096); block <= last; block++)
    if (turns[block] === 0) turns[block] = turn;
}
