import type { BlobSource } from '@sepia/backend/blob-backend';
import { isCoded } from '@sepia/base/errors';
import type { BlobName } from '@sepia/base/names/blob-name';
import { PIECE_BYTES } from '@sepia/metainfo/tree';
import type { BlobStore } from '@sepia/store/blob-store';
import type { UpstreamBlob } from '@sepia/upstream/queries';
import type { FetchJob, FetchPlan } from './core/fetch-plan.ts';
import { storeUnsized } from './fetch-parts.ts';
import { type PieceTail, streamPieces } from './piece-stream.ts';

/** What takes the pieces of one connection. */
export interface ReceiveParts {
  readonly sizeBytes: number;
  readonly plan: FetchPlan;
  /** The connection's id in the plan. */
  readonly id: number;
  readonly onBytes: (bytes: number) => void;
  /** A whole piece; `bytes` is reused afterwards. */
  readonly onPiece: (piece: number, bytes: Uint8Array) => Promise<void>;
  readonly onTail: (tail: PieceTail) => void;
  /** Waited for after each piece: what readers wait for goes first. */
  readonly turn: () => Promise<void>;
}

interface JobParts extends ReceiveParts {
  readonly client: BlobSource;
  readonly name: BlobName;
  readonly signal: AbortSignal;
  /** The size that the answer states, if it does. @throws what ends this connection: it is not the one that is gone by */
  readonly onAnswer: (sizeBytes: number | undefined) => void;
}

interface UnsizedParts {
  readonly client: BlobSource;
  readonly store: BlobStore;
  readonly name: BlobName;
  readonly signal: AbortSignal;
  readonly onBytes: (bytes: number) => void;
  /** A body is taken as it came, whatever its `Content-Encoding`: decoded it was not the blob. */
  readonly asSent: boolean;
  /** The answer told the size: who takes its pieces, or undefined if this connection is of no use then. */
  readonly onSize: (sizeBytes: number) => Promise<ReceiveParts | undefined>;
}

/**
 * One connection for one job of the plan. `tail`: first bytes of its first piece that a cut connection left.
 * @throws {CodedError} what the upstream or `onPiece` fails with
 */
export async function runFetchJob(
  parts: JobParts,
  job: FetchJob,
  tail: PieceTail | undefined,
): Promise<void> {
  const { client, name, plan, sizeBytes, id, signal } = parts;
  const head = tail?.piece === job.start ? tail.bytes : new Uint8Array(0);
  const start = job.start * PIECE_BYTES + head.length;
  const toEnd = job.end >= plan.pieceCount;
  const ranged = plan.ranges !== 'no' && (start > 0 || !toEnd);
  const range = ranged ? { start, ...(toEnd ? {} : { end: job.end * PIECE_BYTES - 1 }) } : undefined;
  const asked = { repository: name.repository, digest: name.digest, range, sizeBytes };
  const blob = await client.getBlob(asked, signal);
  try {
    plan.answered(id);
    if (ranged) plan.setRanges(blob.status === 'partial');
    parts.onAnswer(blob.sizeBytes);
    if (blob.status === 'partial' || (start === 0 && toEnd))
      return await receivePieces(parts, blob, job.start, head);
    // The upstream ignores Range: one connection brings all, from byte 0.
    if (plan.connections > 1) return;
    plan.opened(id, { start: 0, end: plan.pieceCount });
    plan.answered(id);
    await receivePieces(parts, blob, 0, new Uint8Array(0));
  } finally {
    blob.body.destroy();
  }
}

/**
 * The whole blob without knowing its size before: piece by piece if the answer tells it, else to the store.
 * `wrong`: the whole came and does not have the digest. @throws {CodedError} what the upstream fails with
 */
export async function runUnsized(parts: UnsizedParts): Promise<'stored' | 'received' | 'wrong'> {
  const { client, store, name, signal, onBytes, asSent } = parts;
  const blob = await client.getBlob({ repository: name.repository, digest: name.digest, asSent }, signal);
  try {
    if (blob.sizeBytes === undefined) {
      await storeUnsized({ store }, name, blob, onBytes);
      return 'stored';
    }
    const receive = await parts.onSize(blob.sizeBytes);
    if (receive === undefined) return 'received';
    receive.plan.answered(receive.id);
    try {
      await receivePieces(receive, blob, 0, new Uint8Array(0));
    } finally {
      receive.plan.closed(receive.id);
    }
    return 'received';
  } catch (error) {
    if (isCoded(error, 'DIGEST_MISMATCH')) return 'wrong';
    throw error;
  } finally {
    blob.body.destroy();
  }
}

/** Takes the pieces of a body from `firstPiece` on, as long as the plan wants them from this connection. */
async function receivePieces(
  parts: ReceiveParts,
  blob: UpstreamBlob,
  firstPiece: number,
  head: Uint8Array,
): Promise<void> {
  const { plan, id, sizeBytes, onBytes } = parts;
  const onPiece = async (piece: number, bytes: Uint8Array): Promise<boolean> => {
    await parts.onPiece(piece, bytes);
    const goesOn = plan.delivered(id, piece);
    if (goesOn) await parts.turn();
    return goesOn;
  };
  const { tail, error } = await streamPieces({ blob, sizeBytes, firstPiece, head, onBytes, onPiece });
  if (tail !== undefined && plan.ranges !== 'no') parts.onTail(tail);
  if (error !== undefined) throw error;
}
