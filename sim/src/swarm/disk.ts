import type { Bitfield } from '@sepia/base/bitfield';

/** A piece that was written is on disk for good after this. */
const SYNC_MS = 200;
/** So many entries at the front of the queue are cut off together. */
const CUT = 64;

/** The pieces of a blob that a node finds on its disk after a crash. It needs no events of the virtual clock. */
export class Disk {
  readonly #kept: Bitfield;
  /** Pieces that were written, in order, and when each is there for good; those before `#next` are. */
  #written: { readonly index: number; readonly atMs: number }[] = [];
  #next = 0;

  /** `have` is copied. */
  constructor(have: Bitfield) {
    this.#kept = have.clone();
  }

  write(index: number, nowMs: number): void {
    this.#settle(nowMs);
    this.#written.push({ index, atMs: nowMs + SYNC_MS });
  }

  /** All of it is there. */
  complete(): void {
    for (let index = 0; index < this.#kept.size; index++) this.#kept.add(index);
  }

  /** The node dies: what is not there for good by now never is. */
  die(nowMs: number): void {
    this.#settle(nowMs);
    this.#written = [];
    this.#next = 0;
  }

  /** What is there for good by now. */
  durable(nowMs: number): Bitfield {
    this.#settle(nowMs);
    return this.#kept;
  }

  #settle(nowMs: number): void {
    for (let next = this.#written[this.#next]; next !== undefined && next.atMs <= nowMs; ) {
      this.#kept.add(next.index);
      this.#next += 1;
      next = this.#written[this.#next];
    }
    if (this.#next < CUT) return;
    this.#written.splice(0, this.#next);
    this.#next = 0;
  }
}
