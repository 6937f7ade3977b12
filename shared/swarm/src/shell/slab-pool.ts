import { PIECE_BYTES } from '@sepia/metainfo/tree';

/** Slabs of the pool: the memory budget for pieces that are requested but not yet written (40 MiB). */
export const SLAB_COUNT = 40;

/**
 * A fixed pool of piece-sized buffers. A slab has one owner from {@link SlabPool.acquire} to {@link SlabPool.release};
 * memory is allocated at first use and kept. Slabs come back dirty.
 */
export class SlabPool {
  readonly size: number;
  readonly #free: Uint8Array[] = [];
  readonly #taken = new Set<Uint8Array>();
  readonly #waiting = new Set<() => void>();

  constructor(size = SLAB_COUNT) {
    this.size = size;
  }

  get taken(): number {
    return this.#taken.size;
  }

  /** A slab of 1 MiB, or undefined when all are taken. */
  acquire(): Uint8Array | undefined {
    if (this.#taken.size >= this.size) return undefined;
    const slab = this.#free.pop() ?? new Uint8Array(new ArrayBuffer(PIECE_BYTES));
    this.#taken.add(slab);
    return slab;
  }

  /** Gives a slab back. @throws {TypeError} if it is not taken: a slab has one owner */
  release(slab: Uint8Array): void {
    if (!this.#taken.delete(slab)) throw new TypeError('slab released twice');
    this.#free.push(slab);
    for (const wake of [...this.#waiting]) {
      this.#waiting.delete(wake);
      wake();
    }
  }

  /** Calls `wake` once, at the next release. Asking twice with the same function counts once. */
  whenFree(wake: () => void): void {
    this.#waiting.add(wake);
  }

  forget(wake: () => void): void {
    this.#waiting.delete(wake);
  }
}
