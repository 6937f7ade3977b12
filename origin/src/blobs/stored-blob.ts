import type { ReadableBlob } from '@sepia/http/serve-blob';
import { PIECE_BYTES, pieceLength } from '@sepia/metainfo/tree';
import type { BlobHandle } from '@sepia/store/blob-handle';

/**
 * A whole blob of the store as {@link ReadableBlob}. `onRotten` hears of a piece that does not match its hash any
 * more.
 */
export function storedBlob(handle: BlobHandle, onRotten: (error: unknown) => void): ReadableBlob {
  return {
    digest: handle.digest,
    sizeBytes: handle.sizeBytes,
    isFinal: true,
    readPiece: async (index, _signal, into) => {
      try {
        const length = pieceLength(handle.sizeBytes, index);
        return await handle.read(index * PIECE_BYTES, into.subarray(0, length));
      } catch (error) {
        onRotten(error);
        throw error;
      }
    },
    whenFinal: async () => undefined,
    openReader: () => ({ move: () => undefined, close: () => undefined }),
  };
}
