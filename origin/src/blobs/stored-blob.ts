import { CodedError } from '@sepia/base/errors';
import type { ReadableBlob } from '@sepia/http/bodies/readable-blob';
import type { BlobHandle } from '@sepia/store/blob-handle';
import type { Repair } from './repair.ts';

/**
 * A whole blob of the store as {@link ReadableBlob}. A damaged piece is mended while its reader waits, or behind
 * where the reader (`asIs`) is another origin that mends its own copy: two would wait for each other.
 */
export function storedBlob(
  handle: BlobHandle,
  repair: Pick<Repair, 'mend' | 'lookBehind'>,
  options: { readonly asIs: boolean },
): ReadableBlob {
  const { digest, sizeBytes } = handle;
  return {
    digest,
    sizeBytes,
    isFinal: true,
    provesWhole: true,
    isWholeHere: true,
    has: () => true,
    leaves: (piece) => handle.leaves(piece),
    read: async (offset, into) => void (await handle.read(offset, into)),
    pieceHash: (piece) => handle.metainfo().pieceHash(piece),
    mend: async (piece) => {
      if (!options.asIs) return await repair.mend(digest, piece);
      repair.lookBehind(digest, piece);
      throw new CodedError('DISK_CORRUPT', { detail: { digest, piece } });
    },
    whenFinal: async () => undefined,
    openReader: () => ({ move: () => undefined, close: () => undefined }),
  };
}
