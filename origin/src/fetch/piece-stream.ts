import { CodedError } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { PIECE_BYTES, pieceCount, pieceLength } from '@sepia/metainfo/tree';
import type { PartialBlob } from '@sepia/store/partial-blob';
import type { UpstreamBlob } from '@sepia/upstream/queries';

/** Bytes of a piece whose connection was cut: the next one begins behind them. */
export interface PieceTail {
  readonly piece: number;
  readonly bytes: Uint8Array;
}

/** Bytes of a blob that are here, with what a cut connection left of a piece, and bytes that are not. */
export function held(
  partial: PartialBlob | undefined,
  tail: PieceTail | undefined,
): { readonly keptBytes: number; readonly missingBytes: number } {
  if (partial === undefined) return { keptBytes: 0, missingBytes: Number.POSITIVE_INFINITY };
  const keptBytes = Math.min(partial.sizeBytes, partial.have.count * PIECE_BYTES + (tail?.bytes.length ?? 0));
  return { keptBytes, missingBytes: partial.sizeBytes - keptBytes };
}

interface PieceStreamParts {
  readonly blob: UpstreamBlob;
  /** Size of the whole blob. */
  readonly sizeBytes: number;
  readonly firstPiece: number;
  /** First bytes of `firstPiece`, which are here already. */
  readonly head: Uint8Array;
  readonly onBytes: (bytes: number) => void;
  /** Takes a whole piece; `bytes` is reused afterwards. False: no further piece is wanted from this connection. */
  readonly onPiece: (piece: number, bytes: Uint8Array) => Promise<boolean>;
}

/**
 * Cuts a body into pieces of 1 MiB, one buffer for all of them; the body is only read as fast as pieces are taken.
 * Returns what was left of a piece that did not become whole, also when the body ended with an error.
 */
export async function streamPieces(
  parts: PieceStreamParts,
): Promise<{ tail: PieceTail | undefined; error?: unknown }> {
  const { blob, sizeBytes, head } = parts;
  const count = pieceCount(sizeBytes);
  const buffer = Buffer.allocUnsafe(PIECE_BYTES);
  buffer.set(head);
  let piece = parts.firstPiece;
  let fill = head.length;
  let wanted = true;
  const rest = (): PieceTail | undefined =>
    fill > 0 && piece < count
      ? { piece, bytes: Uint8Array.prototype.slice.call(buffer, 0, fill) }
      : undefined;
  try {
    for await (const chunk of blob.body.lent()) {
      parts.onBytes(chunk.length);
      for (let at = 0; at < chunk.length; ) {
        if (piece >= count) throw longer(sizeBytes);
        const length = pieceLength(sizeBytes, piece);
        const take = Math.min(length - fill, chunk.length - at);
        buffer.set(chunk.subarray(at, at + take), fill);
        fill += take;
        at += take;
        if (fill < length) continue;
        fill = 0;
        wanted = await parts.onPiece(piece, buffer.subarray(0, length));
        piece += 1;
        // The last bytes of an answer are read out, so that its connection is used again.
        if (!wanted && piece < count) return { tail: undefined };
      }
    }
    if (wanted && piece < count && blob.sizeBytes === undefined) {
      throw new CodedError('UPSTREAM_LIES', {
        message: 'upstream ended the body early',
        detail: { expected: sizeBytes },
      });
    }
    return { tail: rest() };
  } catch (error) {
    throwIfBug(error);
    return { tail: rest(), error };
  }
}

function longer(sizeBytes: number): CodedError {
  return new CodedError('UPSTREAM_LIES', {
    message: 'upstream sent more bytes than the blob has',
    detail: { expected: sizeBytes },
  });
}
