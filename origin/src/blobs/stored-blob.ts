import type { ReadableBlob } from '@sepia/http/bodies/readable-blob';
import type { BlobHandle } from '@sepia/store/blob-handle';
import type { Repair } from './repair.ts';

/** A whole blob of the store as {@link ReadableBlob}; a damaged piece is mended while its reader waits. */
export function storedBlob(handle: BlobHandle, repair: Pick<Repair, 'mend'>): ReadableBlob {
  return {
    digest: handle.digest,
    sizeBytes: handle.sizeBytes,
    isFinal: true,
    provesWhole: true,
    has: () => true,
    leaves: (piece) => handle.leaves(piece),
    read: async (offset, into) => void (await handle.read(offset, into)),
    mend: async (piece) => await repair.mend(handle.digest, piece),
    whenFinal: async () => undefined,
    openReader: () => ({ move: () => undefined, close: () => undefined }),
  };
}
