import type { Digest } from '@sepia/base/digest';
import { isCoded } from '@sepia/base/errors';
import type { BlobReader, ReadableBlob } from '@sepia/http/serve-blob';
import { PIECE_BYTES, pieceLength } from '@sepia/metainfo/tree';
import type { BlobHandle } from '@sepia/store/blob-handle';

/** Fetches one piece again after it rotted on disk; verified bytes. */
export type RefetchPiece = (index: number, signal: AbortSignal) => Promise<Uint8Array>;

/** A blob of the cache, served from its file; each piece is verified at its first read since the start. */
export class CachedBlob implements ReadableBlob {
  readonly isFinal = true;
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly #handle: BlobHandle;
  readonly #refetch: RefetchPiece;

  constructor(handle: BlobHandle, refetch: RefetchPiece) {
    this.digest = handle.digest;
    this.sizeBytes = handle.sizeBytes;
    this.#handle = handle;
    this.#refetch = refetch;
  }

  async readPiece(index: number, signal: AbortSignal, into: Uint8Array): Promise<Uint8Array> {
    try {
      const length = pieceLength(this.sizeBytes, index);
      return await this.#handle.read(index * PIECE_BYTES, into.subarray(0, length));
    } catch (error) {
      if (!isCoded(error, 'DISK_CORRUPT')) throw error;
      return await this.#refetch(index, signal);
    }
  }

  whenFinal(): Promise<void> {
    return Promise.resolve();
  }

  openReader(): BlobReader {
    return { move: () => undefined, close: () => undefined };
  }
}

/** A small blob in memory, its digest checked. */
export class MemoryBlob implements ReadableBlob {
  readonly isFinal = true;
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly #bytes: Uint8Array;

  constructor(digest: Digest, bytes: Uint8Array) {
    this.digest = digest;
    this.sizeBytes = bytes.length;
    this.#bytes = bytes;
  }

  readPiece(): Promise<Uint8Array> {
    return Promise.resolve(this.#bytes);
  }

  whenFinal(): Promise<void> {
    return Promise.resolve();
  }

  openReader(): BlobReader {
    return { move: () => undefined, close: () => undefined };
  }
}
