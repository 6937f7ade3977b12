import { CodedError } from '@sepia/base/errors';
import type { BlobHandle } from '@sepia/store/blob-handle';
import type { BlobAttrs } from '@sepia/store/blob-store';
import { COPY_STALL_MS } from '../deadlines/members.ts';

/** A blob up to this is sent in one piece, a larger one in pieces of it. */
export const CHUNK_BYTES = 256 * 1024;

/** Who gets a copy, asked by which membership. */
export interface CopyTarget {
  readonly id: string;
  readonly isStandIn: boolean;
  readonly epoch: number;
}

/** A small blob that was just stored, in memory: its copies need no look at the disk. */
export interface SmallBlob {
  readonly bytes: Uint8Array;
  /** As the store has them. */
  readonly attrs: BlobAttrs;
}

/** What was stored, where it is in memory and small enough to be sent in one piece. */
export function smallBlob(attrs: BlobAttrs, bytes: Uint8Array | undefined): SmallBlob | undefined {
  return bytes === undefined || bytes.length > CHUNK_BYTES ? undefined : { bytes, attrs };
}

/** A small blob in one piece: no stream has to be set up for it at either end. */
export async function wholeOf(handle: BlobHandle): Promise<Uint8Array> {
  return handle.sizeBytes === 0
    ? new Uint8Array(0)
    : await handle.read(0, Buffer.allocUnsafe(handle.sizeBytes));
}

/** A blob in chunks; `stall` is aborted once `id` takes none of them for long. */
export function watched(
  handle: BlobHandle,
  id: string,
  stall: AbortController,
): { readonly chunks: AsyncGenerator<Uint8Array>; end(): void } {
  let movedAtMs = performance.now();
  const watch = setInterval(() => {
    if (performance.now() - movedAtMs > COPY_STALL_MS)
      stall.abort(new CodedError('TIMEOUT', { message: `${id} takes no bytes` }));
  }, 500);
  // The client pulls a chunk only after the socket took the one before (each is larger than its buffer), so two
  // buffers in turn are enough; fresh ones would outlive many collections.
  const buffers = [Buffer.allocUnsafe(CHUNK_BYTES), Buffer.allocUnsafe(CHUNK_BYTES)];
  async function* chunks(): AsyncGenerator<Uint8Array> {
    for (let at = 0, turn = 0; at < handle.sizeBytes; at += CHUNK_BYTES, turn = 1 - turn) {
      yield await handle.read(at, buffers[turn]!);
      movedAtMs = performance.now();
    }
    // From here the receiver syncs: its answer has a deadline of its own.
    movedAtMs = Number.POSITIVE_INFINITY;
  }
  return { chunks: chunks(), end: () => clearInterval(watch) };
}
