import type { Digest } from '@sepia/base/digest';

/**
 * A blob that can be read, now or as it arrives. What it hands out is not believed: whoever sends it on checks every
 * leaf against the leaf hashes (see `CheckedBody`).
 */
export interface ReadableBlob {
  readonly digest: Digest;
  readonly sizeBytes: number;
  /** True once the whole digest was verified: nothing is withheld then. */
  readonly isFinal: boolean;
  /**
   * True if `isFinal` and `whenFinal` say that the whole digest was verified by this process. Else they are the word
   * of another member, and a body from byte 0 is hashed as it leaves.
   */
  readonly provesWhole: boolean;
  /** True if all of it lies on this machine: reads may overlap, in any order, and nothing is lent. */
  readonly isWholeHere?: boolean;
  /** True if reads that wait end with `NO_PEERS` once nothing comes of the blob any more: it knows better than a clock when. */
  readonly givesUp?: boolean;
  /** True if a piece can be read without waiting for it. */
  has(piece: number): boolean;
  /**
   * Leaf hashes of a piece (32 bytes a leaf of 16 KiB), which fold to its piece hash; waits until the piece can be read.
   * Rejects when the blob failed (`STALE_ATTEMPT`, `NO_PEERS`), `DISK_CORRUPT` when the piece is damaged.
   */
  leaves(piece: number, signal: AbortSignal): Promise<Uint8Array>;
  /** Fills `into` with the bytes from `offset` on, all of one piece whose leaves were asked for. Unchecked. */
  read(offset: number, into: Uint8Array, signal: AbortSignal): Promise<void>;
  /**
   * A piece in the very memory in which its leaves were verified, which stays as it is until `free` is called. Undefined:
   * read it. Asked for by readers that take what they are given at once.
   */
  lend?(piece: number): { readonly bytes: Uint8Array; free(): void } | undefined;
  /** Hash of a piece, against which what `mend` brings is checked: without it nothing of that is handed out. */
  pieceHash?(piece: number): Uint8Array | undefined;
  /**
   * What was read of a piece is wrong. Resolves with the whole piece if it was got elsewhere, which is not believed
   * either; undefined: read it again. Rejects when there is no right copy.
   */
  mend(piece: number, signal: AbortSignal): Promise<Uint8Array | undefined>;
  /** Resolves when the whole digest was verified; rejects when it is wrong. */
  whenFinal(signal: AbortSignal): Promise<void>;
  /** The whole digest of what was read came out wrong here; only where `provesWhole` is false. */
  onWrongWhole?(): void;
  /** Tells the fetching side where a reader stands, so that these pieces come first, its last byte, and its first if it begins now. */
  openReader(pieceIndex: number, lastByte: number, firstByte?: number): BlobReader;
}

/** Where one reader of a blob stands (0-based pieces), so that what it reads next comes first. `close` is idempotent. */
export interface BlobReader {
  move(pieceIndex: number): void;
  close(): void;
}
