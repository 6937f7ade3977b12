import { CodedError } from '@sepia/base/errors';
import { readElsewhere } from '@sepia/base/failure';
import { PIECE_BYTES, pieceCount, pieceLength } from '@sepia/metainfo/tree';
import type { ReadableBlob } from './serve-blob.ts';

/** One piece to hand out, and whether the whole digest must be verified before it (when it is the last one). */
export interface FeedStep {
  readonly index: number;
  readonly withhold: boolean;
}

/**
 * Pieces of one body in order, read into two buffers in turn; of a verified blob the next one is read while the
 * socket takes the one before.
 */
export class PieceFeed {
  readonly #blob: ReadableBlob;
  readonly #gone: AbortSignal;
  readonly #buffers: [Uint8Array | undefined, Uint8Array | undefined] = [undefined, undefined];
  #turn: 0 | 1 = 0;
  #ahead: { readonly index: number; readonly piece: Promise<Uint8Array> } | undefined;

  /** `gone` is aborted when the client is. */
  constructor(blob: ReadableBlob, gone: AbortSignal) {
    this.#blob = blob;
    this.#gone = gone;
  }

  /**
   * The piece of `step`, valid until the call after the next. `next` is read ahead if nothing is withheld any more.
   * @throws `NO_PEERS` after `waitMs`, `DISK_CORRUPT` for a piece of another length
   */
  async take(step: FeedStep, next: FeedStep | undefined, waitMs: number): Promise<Uint8Array> {
    const ahead = this.#ahead?.index === step.index ? this.#ahead.piece : undefined;
    this.#ahead = undefined;
    const piece = await within(waitMs, this.#gone, (signal) => ahead ?? this.#read(step, signal));
    if (piece.length !== pieceLength(this.#blob.sizeBytes, step.index)) {
      throw new CodedError('DISK_CORRUPT', { detail: { digest: this.#blob.digest, piece: step.index } });
    }
    if (next !== undefined && this.#blob.isFinal) {
      const coming = this.#read(next, this.#gone);
      readElsewhere(coming);
      this.#ahead = { index: next.index, piece: coming };
    }
    return piece;
  }

  async #read({ index, withhold }: FeedStep, signal: AbortSignal): Promise<Uint8Array> {
    const blob = this.#blob;
    if (withhold && !blob.isFinal && index === pieceCount(blob.sizeBytes) - 1) await blob.whenFinal(signal);
    this.#turn = this.#turn === 0 ? 1 : 0;
    this.#buffers[this.#turn] ??= Buffer.allocUnsafeSlow(Math.min(PIECE_BYTES, blob.sizeBytes));
    return await blob.readPiece(index, signal, this.#buffers[this.#turn]!);
  }
}

/** Runs with a signal that ends after `ms` or when the client is gone; gives up then even if `run` ignores it. */
export async function within<T>(
  ms: number,
  gone: AbortSignal,
  run: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const late = new AbortController();
  const { signal } = late;
  const timer = setTimeout(
    () => late.abort(new CodedError('NO_PEERS', { message: `no verified progress within ${ms / 1000} s` })),
    ms,
  );
  // NOTE: no AbortSignal.any: one that is listened to lives until `gone` goes, so each piece of a body would leave one behind.
  const onGone = (): void => late.abort(gone.reason);
  gone.addEventListener('abort', onGone, { once: true });
  try {
    if (gone.aborted) onGone();
    signal.throwIfAborted();
    // NOTE: raced, so that the deadline holds even against a source that does not watch its signal.
    const aborted = new Promise<never>((_, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason), { once: true });
    });
    return await Promise.race([run(signal), aborted]);
  } finally {
    clearTimeout(timer);
    gone.removeEventListener('abort', onGone);
  }
}
