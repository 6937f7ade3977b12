import type { ReadableBlob } from '@sepia/shared/http/serve-blob';
import type { BlobHandle } from '@sepia/shared/store/blob-handle';

/** A whole blob of the store as {@link ReadableBlob}; `onRotten` hears of a piece that does not match its hash any more. */
export function storedBlob(handle: BlobHandle, onRotten: (error: unknown) => void): ReadableBlob {
  return {
    digest: handle.digest,
    sizeBytes: handle.sizeBytes,
    isFinal: true,
    readPiece: async (index) => {
      try {
        return await handle.readPieceVerified(index);
      } catch (error) {
        onRotten(error);
        throw error;
      }
    },
    whenFinal: async () => undefined,
    openReader: () => ({ move: () => undefined, close: () => undefined }),
  };
}
