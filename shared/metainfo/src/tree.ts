import { hash } from 'node:crypto';

/** Bytes of a piece, always (docs/adr/0010-swarm-wire.md). The last piece of a blob may be shorter. */
export const PIECE_BYTES = 1024 * 1024;
/** Bytes of a leaf of the hash tree (BEP 52): what a piece is checked by, part by part. The last of a blob may be shorter. */
export const LEAF_BYTES = 16 * 1024;
/** Bytes of a SHA-256: of a leaf, and of a piece. */
export const HASH_BYTES = 32;

/** How many leaves a whole piece has; the last piece of a blob may have fewer. */
export const LEAVES = PIECE_BYTES / LEAF_BYTES;

/** Pieces of a blob of so many bytes; an empty one has none. */
export function pieceCount(sizeBytes: number): number {
  return Math.ceil(sizeBytes / PIECE_BYTES);
}

/** Length in bytes of piece `index` (0-based) of a blob of `sizeBytes`. */
export function pieceLength(sizeBytes: number, index: number): number {
  return Math.min(PIECE_BYTES, sizeBytes - index * PIECE_BYTES);
}

/** Number of leaves of `bytes` bytes, of a piece or of a whole blob. */
export function leafCount(bytes: number): number {
  return Math.ceil(bytes / LEAF_BYTES);
}

/**
 * Hash of one piece: root of the SHA-256 tree over its 16 KiB leaves, 64 leaves wide; leaves that
 * lie beyond the end of the blob are 32 zero bytes (BEP 52, "piece layers").
 * Returns 32 fresh bytes; `piece` is only read.
 */
export function pieceHash(piece: Uint8Array): Uint8Array {
  putLeaves(piece, SCRATCH);
  return foldTree(SCRATCH);
}

/** Leaf hashes of one piece, 32 bytes each, fresh; {@link foldLeaves} makes its hash of them. */
export function pieceLeaves(piece: Uint8Array): Uint8Array {
  const leaves = Buffer.alloc(leafCount(piece.length) * HASH_BYTES);
  putLeaves(piece, leaves);
  return leaves;
}

/** Piece hash of leaf hashes: 32 fresh bytes; `leaves` is only read. */
export function foldLeaves(leaves: Uint8Array): Uint8Array {
  SCRATCH.set(leaves);
  SCRATCH.fill(0, leaves.length);
  return foldTree(SCRATCH);
}

/** True if `bytes` are what the leaf hash at place `leaf` of `leaves` says. */
export function isLeaf(leaves: Buffer, leaf: number, bytes: Uint8Array): boolean {
  const at = leaf * HASH_BYTES;
  return (
    at < leaves.length && hash('sha256', bytes, 'binary') === leaves.toString('latin1', at, at + HASH_BYTES)
  );
}

/** Leaf hashes of the piece that is being hashed; nothing here waits, so one is enough. */
const SCRATCH = Buffer.alloc(LEAVES * HASH_BYTES);

function putLeaves(piece: Uint8Array, layer: Buffer): void {
  if (piece.length <= PIECE_BYTES - LEAF_BYTES) layer.fill(0);
  for (let leaf = 0, at = 0; at < piece.length; leaf += 1, at += LEAF_BYTES)
    putHash(piece.subarray(at, at + LEAF_BYTES), layer, leaf);
}

/** Puts the SHA-256 of `bytes` at place `at` of `layer`; as a string it leaves no memory of its own behind. */
function putHash(bytes: Uint8Array, layer: Buffer, at: number): void {
  layer.write(hash('sha256', bytes, 'binary'), at * HASH_BYTES, HASH_BYTES, 'latin1');
}

/** Root over `layer`, a power-of-two number of 32-byte hashes; overwrites `layer`. */
function foldTree(layer: Buffer): Uint8Array {
  for (let width = layer.length / HASH_BYTES; width > 1; width /= 2) {
    for (let pair = 0; pair < width / 2; pair++)
      putHash(layer.subarray(pair * 2 * HASH_BYTES, (pair * 2 + 2) * HASH_BYTES), layer, pair);
  }
  return new Uint8Array(layer.subarray(0, HASH_BYTES));
}

/**
 * Piece hashes of bytes that arrive in order, in chunks of any size.
 * Holds at most one leaf of bytes plus the leaf hashes of the current piece, which `onLeaves` is lent at its end.
 */
export class PieceHasher {
  readonly #hashes: Uint8Array[] = [];
  #leaf = new Uint8Array(LEAF_BYTES);
  #leafFill = 0;
  readonly #layer = Buffer.alloc(LEAVES * HASH_BYTES);
  #leaves = 0;
  #sizeBytes = 0;
  readonly #onLeaves: ((leaves: Uint8Array) => void) | undefined;

  constructor(onLeaves?: (leaves: Uint8Array) => void) {
    this.#onLeaves = onLeaves;
  }

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
    putHash(leaf, this.#layer, this.#leaves);
    this.#leaves += 1;
    if (this.#leaves === LEAVES) this.#endPiece();
  }

  #endPiece(): void {
    this.#onLeaves?.(this.#layer.subarray(0, this.#leaves * HASH_BYTES));
    this.#hashes.push(foldTree(this.#layer));
    this.#layer.fill(0);
    this.#leaves = 0;
  }
}
