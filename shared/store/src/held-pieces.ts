import { pieceLeaves } from '@sepia/metainfo/tree';

interface HeldPiece {
  readonly bytes: Uint8Array;
  /** Made when they are asked for, where the caller had none. */
  leaves: Uint8Array | undefined;
}

/** Verified pieces on their way to the disk: until they are there, they are read from the memory that they are written from. */
export class HeldPieces {
  readonly #pieces = new Map<number, HeldPiece>();
  readonly #listeners = new Set<(index: number) => void>();

  has(index: number): boolean {
    return this.#pieces.has(index);
  }

  /** Holds a piece while `written` runs, and tells the listeners. `bytes` must not change meanwhile. @throws what `written` does */
  async during(
    index: number,
    bytes: Uint8Array,
    leaves: Uint8Array | undefined,
    written: Promise<unknown>,
  ): Promise<void> {
    const held = { bytes, leaves };
    this.#pieces.set(index, held);
    for (const listener of this.#listeners) listener(index);
    try {
      await written;
    } finally {
      if (this.#pieces.get(index) === held) this.#pieces.delete(index);
    }
  }

  /** Fills `into` with bytes of a piece from `offset` on; false if it is not held. */
  copy(index: number, offset: number, into: Uint8Array): boolean {
    const held = this.#pieces.get(index);
    if (held === undefined) return false;
    into.set(held.bytes.subarray(offset, offset + into.length));
    return true;
  }

  /** Leaf hashes of a piece that is held; only read them. */
  leaves(index: number): Uint8Array | undefined {
    const held = this.#pieces.get(index);
    if (held !== undefined) held.leaves ??= pieceLeaves(held.bytes);
    return held?.leaves;
  }

  /** Calls `listener` with each piece from when it is held, until what is returned is called. It must not throw. */
  listen(listener: (index: number) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Nothing of it is right any more. */
  clear(): void {
    this.#pieces.clear();
  }
}
