import { CORE_LIMITS } from '../core/limits.ts';
import type { LentBytes, Reader } from '../swarm.ts';
import type { KeptSlab, SlabPool } from './slab-pool.ts';

/** A piece is kept if a reader stands at most this many pieces before it. */
const AHEAD = CORE_LIMITS.loneWindow;

interface Fresh {
  readonly bytes: Uint8Array;
  readonly kept: KeptSlab;
}

interface ReaderEvents {
  readonly opened: (reader: number, index: number, last: number | undefined) => void;
  readonly moved: (reader: number, index: number) => void;
  readonly closed: (reader: number) => void;
}

/**
 * Pieces that were verified and written a moment ago and that readers come to: as long as their slab is not needed for
 * another piece, they are read from memory. Knows where the readers of a swarm stand.
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

  /** Takes over the slab of a piece that was verified in it and written. */
  offer(index: number, slab: Uint8Array, lengthBytes: number): void {
    if (!this.#isNear(index)) {
      this.#slabs.release(slab);
      return;
    }
    for (const [other, { kept }] of this.#pieces) {
      if (this.#isNear(other) && other !== index) continue;
      kept.drop();
      this.#pieces.delete(other);
    }
    this.#pieces.set(index, { bytes: slab.subarray(0, lengthBytes), kept: this.#slabs.keep(slab) });
  }

  /** The bytes of a piece, as they were verified; undefined if they are not in memory any more. */
  lend(index: number): LentBytes | undefined {
    const fresh = this.#pieces.get(index);
    const free = fresh?.kept.pin();
    if (fresh === undefined || free === undefined) {
      this.#pieces.delete(index);
      return undefined;
    }
    return { bytes: fresh.bytes, free };
  }

  stop(): void {
    for (const { kept } of this.#pieces.values()) kept.drop();
    this.#pieces.clear();
    this.#readers.clear();
  }

  #isNear(index: number): boolean {
    for (const at of this.#readers.values()) if (index >= at && index < at + AHEAD) return true;
    return false;
  }
}
