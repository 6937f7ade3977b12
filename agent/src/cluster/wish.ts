import { MAX_BLOB_BYTES } from '@sepia/metainfo/metainfo';
import { PIECE_BYTES } from '@sepia/metainfo/tree';
import { rangeWish } from '@sepia/oci/range';

/** What is wanted of a blob that the cluster does not have yet: all of it, or what is read, `piece` first if known. */
export interface Wish {
  readonly all: boolean;
  readonly piece?: number | undefined;
}

/** What a request with this `Range` header wants of a blob; `sizeBytes` if known. */
export function wishOf(range: string, sizeBytes: number | undefined): Wish {
  const wish = rangeWish(range, sizeBytes);
  if (wish.want === 'all') return { all: true };
  // Behind the end of every blob no piece is: what asks for it learns so once the size is known.
  return wish.start === undefined || wish.start >= MAX_BLOB_BYTES
    ? { all: false }
    : { all: false, piece: Math.floor(wish.start / PIECE_BYTES) };
}
