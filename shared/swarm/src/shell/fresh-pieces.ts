import { CORE_LIMITS } from '../core/limits.ts';
import type { LentBytes, Reader } from '../swarm.ts';
import type { SharedSlab, SlabPool } from './slab-pool.ts';

/** A piece is kept if a reader stands at most this many pieces before it. */
const AHEAD = CORE_LIMITS.loneWindow;

interface Fresh {
  readonly bytes: Uint8Array;
  readonly slab: SharedSlab;
}

interface ReaderEvents {
  readonly opened: (reader: number, index: number, last: number | undefined) => void;
  readonly moved: (reader: number, index: number) => void;
  readonly closed: (reader: number) => void;
}

/**
 * Pieces that were verified a moment ago, are being written or were, and that readers come to: as long as their slab is not
 * needed for another piece, they are read from memory. Knows where the readers of a swarm stand.
 */
export class FreshPieces {
  readonly #slabs: SlabPool;
  readonly #events: ReaderEvents;
  readonly #readers = new Map<number, number>();
  readonly #pieces = new Map<number, Fresh>();
  #nextReader = 0;

  constructor(slabs: SlabPool, events: ReaderEvents) {
    this.#slabs = slabs;
    this.#events = events;
  }

  /** A reader that stands at `index` and reads no further than `last`. */
  openReader(index: number, last: number | undefined): Reader {
    const reader = this.#nextReader++;
    this.#readers.set(reader, index);
    this.#events.opened(reader, index, last);
    return {
      move: (to) => {
        if (!this.#readers.has(reader)) return;
        this.#readers.set(reader, to);
        this.#events.moved(reader, to);
      },
      close: () => {
        if (this.#readers.delete(reader)) this.#events.closed(reader);
      },
    };
  }

  /** Takes over the slab of a piece that was verified in it and is to be written; what is returned is called once it was, or could not be. */
  offer(index: number, slab: Uint8Array, lengthBytes: number): (isWritten: boolean) => void {
    const fresh = { bytes: slab.subarray(0, lengthBytes), slab: this.#slabs.share(slab) };
    this.#pieces.set(index, fresh);
    return (isWritten) => {
      const isKept = isWritten && this.#pieces.get(index) === fresh && this.#isNear(index);
      fresh.slab.settle(isKept);
      if (isKept) this.#dropFar();
      else this.#drop(index, fresh);
    };
  }

  /** The bytes of a piece, as they were verified; undefined if they are not in memory any more. */
  lend(index: number): LentBytes | undefined {
    const fresh = this.#pieces.get(index);
    const free = fresh?.slab.pin();
    if (fresh === undefined || free === undefined) return undefined;
    return { bytes: fresh.bytes, free };
  }

  stop(): void {
    for (const { slab } of this.#pieces.values()) slab.drop();
    this.#pieces.clear();
    this.#readers.clear();
  }

  #dropFar(): void {
    for (const [index, fresh] of this.#pieces) if (!this.#isNear(index)) this.#drop(index, fresh);
  }

  #drop(index: number, fresh: Fresh): void {
    fresh.slab.drop();
    if (this.#pieces.get(index) === fresh) this.#pieces.delete(index);
  }

  #isNear(index: number): boolean {
    for (const at of this.#readers.values()) if (index >= at && index < at + AHEAD) return true;
    return false;
  }
}
