import type { Digest } from '@sepia/base/digest';

/** Damaged pieces that are remembered; further ones are found by the next pass, or the next read. */
const MAX_DAMAGED = 1_000;
/** Digests that a warning names. */
const MAX_NAMED = 3;

/** One piece of a stored blob. */
interface PieceAt {
  readonly digest: Digest;
  readonly piece: number;
}

/** Pieces on this disk that are damaged and that nobody could mend yet, whoever found them: a read, a complaint or the scrub. */
export class DamagedPieces implements Iterable<PieceAt> {
  readonly #pieces = new Map<string, PieceAt>();
  #onNote: () => void = () => undefined;

  /** Calls `listener` after each piece that is noted. */
  onNote(listener: () => void): void {
    this.#onNote = listener;
  }

  note(digest: Digest, piece: number): void {
    const key = keyOf(digest, piece);
    if (this.#pieces.size >= MAX_DAMAGED && !this.#pieces.has(key)) return;
    this.#pieces.set(key, { digest, piece });
    this.#onNote();
  }

  /** The piece was mended on disk, or its blob is gone. */
  forget(digest: Digest, piece: number): void {
    this.#pieces.delete(keyOf(digest, piece));
  }

  get size(): number {
    return this.#pieces.size;
  }

  get digests(): readonly Digest[] {
    return [...new Set([...this.#pieces.values()].map(({ digest }) => digest))];
  }

  /** The pieces noted at this moment: changes during the iteration are not seen. */
  [Symbol.iterator](): Iterator<PieceAt> {
    return [...this.#pieces.values()][Symbol.iterator]();
  }

  /** In words, for `/readyz`; empty if all that was found is mended. */
  get warnings(): string[] {
    if (this.size === 0) return [];
    const { digests } = this;
    const named = digests.slice(0, MAX_NAMED).join(', ');
    const more = digests.length > MAX_NAMED ? ` and ${digests.length - MAX_NAMED} more` : '';
    return [`damaged: no right copy is found of ${this.size} pieces on this disk, of ${named}${more}`];
  }
}

function keyOf(digest: Digest, piece: number): string {
  return `${digest}/${piece}`;
}
