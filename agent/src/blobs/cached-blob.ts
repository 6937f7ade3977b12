import type { Digest } from '@sepia/base/digest';
import type { BlobReader, ReadableBlob } from '@sepia/http/bodies/readable-blob';
import type { BlobHandle } from '@sepia/store/blob-handle';

/** Gets a right copy of one piece after it rotted on disk, and writes it over the damaged one. */
export type MendPiece = (index: number, signal: AbortSignal) => Promise<Uint8Array>;

/** A blob of the cache, served from its file. */
export class CachedBlob implements ReadableBlob {
  readonly isFinal = true;
  readonly provesWhole = true;
  readonly isWholeHere = true;
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly #handle: BlobHandle;
  readonly #mend: MendPiece;

  constructor(handle: BlobHandle, mend: MendPiece) {
    this.digest = handle.digest;
    this.sizeBytes = handle.sizeBytes;
    this.#handle = handle;
    this.#mend = mend;
  }

  has(): boolean {
    return true;
  }

  async leaves(index: number): Promise<Uint8Array> {
    return await this.#handle.leaves(index);
  }

  async read(offset: number, into: Uint8Array): Promise<void> {
    await this.#handle.read(offset, into);
  }

  pieceHash(index: number): Uint8Array | undefined {
    return this.#handle.metainfo().pieceHash(index);
  }

  async mend(index: number, signal: AbortSignal): Promise<Uint8Array> {
    return await this.#mend(index, signal);
  }

  whenFinal(): Promise<void> {
    return Promise.resolve();
  }

  openReader(): BlobReader {
    return { move: () => undefined, close: () => undefined };
  }
}
