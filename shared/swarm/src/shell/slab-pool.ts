import { WakeTurns } from '@sepia/base/async/wake-turns';
import { PIECE_BYTES } from '@sepia/metainfo/tree';

/** Slabs of the pool: the memory budget for pieces that are requested, unwritten or kept for readers (40 MiB). */
export const SLAB_COUNT = 40;
/** Slabs whose bytes are kept for readers, at most. */
const KEPT_SLABS = 16;
/** Of a pool, at most this share is held by readers: a client that stops reading never stops the swarm. */
const PINNED_SHARE = 5;

/** A slab that its owner does not change any more: others may read it, also once its owner has given it back. */
export interface SharedSlab {
  /**
   * Keeps the bytes as they are until the function that it returns is called (idempotent). Undefined if they are gone, or
   * if readers hold as many slabs as they may.
   */
  pin(): (() => void) | undefined;
  /**
   * Its owner gives it back. `isKept`: its bytes may be read until another piece needs the slab; else it is free once who reads
   * it now is done. Idempotent.
   */
  settle(isKept: boolean): void;
  /** Frees the kept bytes: nobody will read them any more. Idempotent; without effect before `settle`. */
  drop(): void;
}

/** How a slab is shared: how many readers hold it, and whether its owner still does. */
interface Shares {
  pins: number;
  isOwned: boolean;
}

/**
 * A fixed pool of piece-sized buffers. A slab has one owner from {@link SlabPool.acquire} to {@link SlabPool.release}
 * or {@link SharedSlab.settle}; memory is allocated at first use and kept. Slabs come back dirty.
 */
export class SlabPool {
  readonly size: number;
  readonly #free: Uint8Array[] = [];
  readonly #taken = new Set<Uint8Array>();
  /** Oldest first. */
  readonly #kept = new Map<Uint8Array, Shares>();
  readonly #waiting = new WakeTurns();
  /** Slabs that readers hold; those of them that have no owner any more. */
  #read = 0;
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

  /** Lets others read a slab that its owner does not change any more, and gives back with `settle`. @throws {TypeError} if it is not taken */
  share(slab: Uint8Array): SharedSlab {
    if (!this.#taken.has(slab)) throw new TypeError('slab released twice');
    const shares: Shares = { pins: 0, isOwned: true };
    const isHere = (): boolean => shares.isOwned || this.#kept.get(slab) === shares;
    return {
      pin: () => (isHere() && this.#mayPin(shares) ? this.#pin(shares) : undefined),
      settle: (isKept) => {
        if (shares.isOwned) this.#settle(slab, shares, isKept);
      },
      drop: () => {
        if (shares.isOwned || !isHere() || shares.pins > 0) return;
        this.#kept.delete(slab);
        this.#free.push(slab);
      },
    };
  }

  /**
   * Calls `wake` once, when a slab is free and it is its turn: a swarm that takes one and wants more waits behind the others, so that
   * none keeps the pool to itself. Asking twice with the same function counts once.
   */
  whenFree(wake: () => void): void {
    this.#waiting.add(wake);
  }

  forget(wake: () => void): void {
    this.#waiting.forget(wake);
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

  #settle(slab: Uint8Array, shares: Shares, isKept: boolean): void {
    shares.isOwned = false;
    this.#taken.delete(slab);
    if (isKept || shares.pins > 0) this.#keep(slab, shares);
    else this.#free.push(slab);
    this.#wake();
  }

  #keep(slab: Uint8Array, shares: Shares): void {
    const oldest = this.#kept.size >= KEPT_SLABS ? this.#oldestKept() : undefined;
    if (oldest !== undefined) this.#free.push(oldest);
    this.#kept.set(slab, shares);
    if (shares.pins > 0) this.#pinned += 1;
  }

  #mayPin({ pins }: Shares): boolean {
    return pins > 0 || this.#read < Math.max(1, Math.floor(this.size / PINNED_SHARE));
  }

  #pin(shares: Shares): () => void {
    shares.pins += 1;
    if (shares.pins === 1) {
      this.#read += 1;
      if (!shares.isOwned) this.#pinned += 1;
    }
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      shares.pins -= 1;
      if (shares.pins > 0) return;
      this.#read -= 1;
      if (shares.isOwned) return;
      this.#pinned -= 1;
      this.#wake();
    };
  }

  #wake(): void {
    this.#waiting.wakeWhile(() => this.taken < this.size);
  }
}
