import type { Digest } from '@sepia/base/digest';
import { PIECE_BYTES, pieceLeaves, pieceLength } from '@sepia/metainfo/tree';
import type { BlobReader, ReadableBlob } from './readable-blob.ts';

/** A small blob that lies in memory as a whole; the caller has checked its digest. `bytes` is kept, not copied. */
export class MemoryBlob implements ReadableBlob {
  readonly isFinal = true;
  readonly provesWhole = true;
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly #bytes: Uint8Array;

  constructor(digest: Digest, bytes: Uint8Array) {
    this.digest = digest;
    this.sizeBytes = bytes.length;
    this.#bytes = bytes;
  }

  has(): boolean {
    return true;
  }

  leaves(piece: number): Promise<Uint8Array> {
    const at = piece * PIECE_BYTES;
    return Promise.resolve(pieceLeaves(this.#bytes.subarray(at, at + pieceLength(this.sizeBytes, piece))));
  }

  read(offset: number, into: Uint8Array): Promise<void> {
    into.set(this.#bytes.subarray(offset, offset + into.length));
    return Promise.resolve();
  }

  mend(): Promise<undefined> {
    return Promise.resolve(undefined);
  }

  whenFinal(): Promise<void> {
    return Promise.resolve();
  }

  openReader(): BlobReader {
    return { move: () => undefined, close: () => undefined };
  }
}
