import type { ReadableBlob } from '@sepia/shared/http/serve-blob';
import { PIECE_BYTES, pieceLength } from '@sepia/shared/metainfo/tree';
import type { BlobHandle } from '@sepia/shared/store/blob-handle';

/**
 * A whole blob of the store as {@link ReadableBlob} for one reader: pieces are read into one buffer again and
 * again, as fresh ones outlive many collections while sockets hold them. `onRotten` hears of a piece that does not
 * match its hash any more.
 */
export function storedBlob(handle: BlobHandle, onRotten: (error: unknown) => void): ReadableBlob {
  let buffer: Buffer | undefined;
  return {
    digest: handle.digest,
    sizeBytes: handle.sizeBytes,
    isFinal: true,
    readPiece: async (index) => {
      buffer ??= Buffer.allocUnsafe(Math.min(PIECE_BYTES, handle.sizeBytes));
      try {
        const length = pieceLength(handle.sizeBytes, index);
        return await handle.read(index * PIECE_BYTES, buffer.subarray(0, length));
      } catch (error) {
        onRotten(error);
        throw error;
      }
    },
    whenFinal: async () => undefined,
    openReader: () => ({ move: () => undefined, close: () => undefined }),
  };
}
