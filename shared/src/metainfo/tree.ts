import { hash } from 'node:crypto';

/** Bytes of a piece, always (design: "The swarm"). The last piece of a blob may be shorter. */
export const PIECE_BYTES = 1024 * 1024;
/** Bytes of a leaf of the tree (BEP 52). */
export const LEAF_BYTES = 16 * 1024;
/** Bytes of a piece hash. */
export const HASH_BYTES = 32;

const LEAVES = PIECE_BYTES / LEAF_BYTES;

export function pieceCount(sizeBytes: number): number {
  return Math.ceil(sizeBytes / PIECE_BYTES);
}

/** Length in bytes of piece `index` (0-based) of a blob of `sizeBytes`. */
export function pieceLength(sizeBytes: number, index: number): number {
  return Math.min(PIECE_BYTES, sizeBytes - index * PIECE_BYTES);
}

/**
 * Hash of one piece: root of the SHA-256 tree over its 16 KiB leaves, 64 leaves wide; leaves that
 * lie beyond the end of the blob are 32 zero bytes (BEP 52, "piece layers").
 * Returns 32 fresh bytes; `piece` is only read.
 */
export function pieceHash(piece: Uint8Array): Uint8Array {
  const layer = new Uint8Array(LEAVES * HASH_BYTES);
  for (let leaf = 0, at = 0; at < piece.length; leaf += 1, at += LEAF_BYTES) {
    layer.set(hash('sha256', piece.subarray(at, at + LEAF_BYTES), 'buffer'), leaf * HASH_BYTES);
  }
  return foldTree(layer);
}

/** Root over `layer`, a power-of-two number of 32-byte hashes; overwrites `layer`. */
function foldTree(layer: Uint8Array): Uint8Array {
  for (let width = layer.length / HASH_BYTES; width > 1; width /= 2) {
    for (let pair = 0; pair < width / 2; pair++) {
      const both = layer.subarray(pair * 2 * HASH_BYTES, (pair * 2 + 2) * HASH_BYTES);
      layer.set(hash('sha256', both, 'buffer'), pair * HASH_BYTES);
    }
  }
  return layer.slice(0, HASH_BYTES);
}

/**
 * Piece hashes of bytes that arrive in order, in chunks of any size.
 * Holds at most one leaf of bytes plus the leaf hashes of the current piece.
 */
export class PieceHasher {
  readonly #hashes: Uint8Array[] = [];
  #leaf = new Uint8Array(LEAF_BYTES);
  #leafFill = 0;
  #layer = new Uint8Array(LEAVES * HASH_BYTES);
  #leaves = 0;
  #sizeBytes = 0;

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  update(bytes: Uint8Array): void {
    this.#sizeBytes += bytes.length;
    let at = 0;
    while (at < bytes.length) {
      if (this.#leafFill === 0 && bytes.length - at >= LEAF_BYTES) {
        this.#addLeaf(bytes.subarray(at, at + LEAF_BYTES));
        at += LEAF_BYTES;
        continue;
      }
      const take = Math.min(LEAF_BYTES - this.#leafFill, bytes.length - at);
      this.#leaf.set(bytes.subarray(at, at + take), this.#leafFill);
      this.#leafFill += take;
      at += take;
      if (this.#leafFill === LEAF_BYTES) {
        this.#addLeaf(this.#leaf);
        this.#leafFill = 0;
      }
    }
  }

  /** Ends the blob and returns its piece layer: 32 bytes a piece, concatenated. */
  finish(): Uint8Array {
    if (this.#leafFill > 0) this.#addLeaf(this.#leaf.subarray(0, this.#leafFill));
    this.#leafFill = 0;
    if (this.#leaves > 0) this.#endPiece();
    const layer = new Uint8Array(this.#hashes.length * HASH_BYTES);
    this.#hashes.forEach((one, index) => {
      layer.set(one, index * HASH_BYTES);
    });
    return layer;
  }

  #addLeaf(leaf: Uint8Array): void {
    this.#layer.set(hash('sha256', leaf, 'buffer'), this.#leaves * HASH_BYTES);
    this.#leaves += 1;
    if (this.#leaves === LEAVES) this.#endPiece();
  }

  #endPiece(): void {
    this.#hashes.push(foldTree(this.#layer));
    this.#layer = new Uint8Array(LEAVES * HASH_BYTES);
    this.#leaves = 0;
  }
}
