import { logFailure } from '@sepia/base/failure';
import { delay } from '@sepia/base/lifecycle';
import type { Logger } from '@sepia/base/log';
import type { VouchedPiece } from '../cluster/origin-client.ts';
import { URGE_AGAIN_MS } from '../deadlines.ts';

/** Pieces ahead of a reader whose hashes are asked for at the same time. */
const AHEAD = 4;

/** Where a reader stands, and the last piece that it reads. */
export interface ReaderSpan {
  readonly index: number;
  readonly last: number;
}

export interface UrgeDeps {
  /** Whether the piece must be asked for past the swarm: its hash is not known, and the fetch does not come by it soon. */
  readonly isFar: (index: number) => boolean;
  /** Pause before an origin is asked, in ms. */
  readonly afterMs: number;
  readonly ask: (index: number, last: number, signal: AbortSignal) => Promise<VouchedPiece | undefined>;
  readonly onPiece: (index: number, piece: VouchedPiece) => Promise<void>;
  readonly log: Logger;
}

/** Asks the fetching origin for pieces that readers come to and that it has not reached: out of order, a few at once. */
export class Urges {
  readonly #deps: UrgeDeps;
  readonly #running = new Map<number, AbortController>();

  constructor(deps: UrgeDeps) {
    this.#deps = deps;
  }

  /** Readers moved, or more is known: begins what is called for now, ends what is not. */
  update(readers: Iterable<ReaderSpan>): void {
    const needed = new Map<number, number>();
    for (const { index, last } of readers)
      for (let piece = index; piece <= Math.min(last, index + AHEAD - 1); piece++)
        if (this.#deps.isFar(piece)) needed.set(piece, Math.max(last, needed.get(piece) ?? last));
    for (const [piece, abort] of this.#running) {
      if (needed.has(piece)) continue;
      this.#running.delete(piece);
      abort.abort();
    }
    for (const [piece, last] of needed) if (!this.#running.has(piece)) this.#begin(piece, last);
  }

  stop(): void {
    this.update([]);
  }

  #begin(piece: number, last: number): void {
    const abort = new AbortController();
    this.#running.set(piece, abort);
    void this.#run(piece, last, abort.signal).finally(() => {
      if (this.#running.get(piece) === abort) this.#running.delete(piece);
    });
  }

  /** Until it is answered, or not needed any more. A failure is the origin's: the download's own deadline ends it. */
  async #run(piece: number, last: number, signal: AbortSignal): Promise<void> {
    const { afterMs, ask, onPiece, isFar, log } = this.#deps;
    for (let waitMs = afterMs; ; waitMs = URGE_AGAIN_MS) {
      try {
        if (waitMs > 0) await delay(waitMs, signal);
        if (!isFar(piece)) return;
        const answer = await ask(piece, last, signal);
        if (answer !== undefined && !signal.aborted) await onPiece(piece, answer);
        return;
      } catch (error) {
        if (signal.aborted) return;
        logFailure(log, error, 'nobody could be urged', { piece }, 'debug');
      }
    }
  }
}
