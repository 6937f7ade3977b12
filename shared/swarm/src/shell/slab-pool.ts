import { PIECE_BYTES } from '@sepia/metainfo/tree';

/** Slabs of the pool: the memory budget for pieces that are requested, unwritten or kept for readers (40 MiB). */
export const SLAB_COUNT = 40;
/** Slabs whose bytes are kept for readers, at most. */
const KEPT_SLABS = 16;
/** Of a pool, at most this share is held by readers: a client that stops reading never stops the swarm. */
const PINNED_SHARE = 5;

/** A slab that is free, but for those who still read what it holds. */
export interface KeptSlab {
  /**
   * Keeps the bytes as they are until the function that it returns is called (idempotent). Undefined if they are gone, or
   * if readers hold as many slabs as they may.
   */
  pin(): (() => void) | undefined;
  /** Nobody will ask for them any more. Idempotent. */
  drop(): void;
}

/**
 * A fixed pool of piece-sized buffers. A slab has one owner from {@link SlabPool.acquire} to {@link SlabPool.release} or
 * {@link SlabPool.keep}; memory is allocated at first use and kept. Slabs come back dirty.
 */
export class SlabPool {
  readonly size: number;
  readonly #free: Uint8Array[] = [];
  readonly #taken = new Set<Uint8Array>();
  /** Oldest first. */
  readonly #kept = new Map<Uint8Array, { pins: number }>();
  readonly #waiting = new Set<() => void>();
  #pinned = 0;

  constructor(size = SLAB_COUNT) {
    this.size = size;
  }

  /** Slabs that nobody else can have now. */
  get taken(): number {
    return this.#taken.size + this.#pinned;
  }

  /** A slab of 1 MiB, or undefined when all are taken. */
  acquire(): Uint8Array | undefined {
    if (this.taken >= this.size) return undefined;
    const slab = this.#free.pop() ?? this.#fresh() ?? this.#oldestKept();
    if (slab !== undefined) this.#taken.add(slab);
    return slab;
  }

  /** Gives a slab back. @throws {TypeError} if it is not taken: a slab has one owner */
  release(slab: Uint8Array): void {
    if (!this.#taken.delete(slab)) throw new TypeError('slab released twice');
    this.#free.push(slab);
    this.#wake();
  }

  /** Gives a slab back whose bytes may still be read until another needs it. @throws {TypeError} if it is not taken */
  keep(slab: Uint8Array): KeptSlab {
    if (!this.#taken.delete(slab)) throw new TypeError('slab released twice');
    if (this.#kept.size >= KEPT_SLABS) {
      const oldest = this.#oldestKept();
      if (oldest !== undefined) this.#free.push(oldest);
    }
    const state = { pins: 0 };
    this.#kept.set(slab, state);
    this.#wake();
    const isHere = (): boolean => this.#kept.get(slab) === state;
    return {
      pin: () => (isHere() && this.#mayPin(state) ? this.#pin(state) : undefined),
      drop: () => {
        if (!isHere() || state.pins > 0) return;
        this.#kept.delete(slab);
        this.#free.push(slab);
      },
    };
  }

  /** Calls `wake` once, at the next release. Asking twice with the same function counts once. */
  whenFree(wake: () => void): void {
    this.#waiting.add(wake);
  }

  forget(wake: () => void): void {
    this.#waiting.delete(wake);
  }

  #fresh(): Uint8Array | undefined {
    const allocated = this.#free.length + this.#taken.size + this.#kept.size;
    return allocated < this.size ? new Uint8Array(new ArrayBuffer(PIECE_BYTES)) : undefined;
  }

  #oldestKept(): Uint8Array | undefined {
    for (const [slab, { pins }] of this.#kept) {
      if (pins > 0) continue;
      this.#kept.delete(slab);
      return slab;
    }
    return undefined;
  }

  #mayPin({ pins }: { pins: number }): boolean {
    return pins > 0 || this.#pinned < Math.max(1, Math.floor(this.size / PINNED_SHARE));
  }

  #pin(state: { pins: number }): () => void {
    state.pins += 1;
    if (state.pins === 1) this.#pinned += 1;
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      state.pins -= 1;
      if (state.pins > 0) return;
      this.#pinned -= 1;
      this.#wake();
    };
  }

  #wake(): void {
    for (const wake of [...this.#waiting]) {
      this.#waiting.delete(wake);
      wake();
    }
  }
}
