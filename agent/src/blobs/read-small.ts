import { CodedError } from '@sepia/base/errors';
import type { BlobName } from '@sepia/base/names/blob-name';
import { checkedPiece } from '@sepia/http/bodies/checked-body';
import { pieceCount } from '@sepia/metainfo/tree';
import type { BlobTable } from './blob-table.ts';

/** A whole blob of a few pieces, each checked. @throws what `BlobTable.get` throws, `SIZE_MISMATCH` for a larger one */
export async function readSmall(
  blobs: Pick<BlobTable, 'get'>,
  name: BlobName,
  mostBytes: number,
  signal: AbortSignal,
): Promise<Buffer> {
  const lease = await blobs.get(name, signal);
  try {
    const { blob } = lease;
    if (blob.sizeBytes > mostBytes)
      throw new CodedError('SIZE_MISMATCH', { message: `a config of ${blob.sizeBytes} bytes` });
    const reader = blob.openReader(0, blob.sizeBytes - 1);
    try {
      const pieces: Uint8Array[] = [];
      for (let piece = 0; piece < pieceCount(blob.sizeBytes); piece++)
        pieces.push(Buffer.from(await checkedPiece(blob, piece, signal)));
      return Buffer.concat(pieces);
    } finally {
      reader.close();
    }
  } finally {
    lease.release();
  }
}
