import { backoffMs } from '@sepia/base/async/backoff';
import { FIRST_FILL_PAUSE_MS, LONGEST_FILL_PAUSE_MS } from '../../deadlines.ts';

interface Rest {
  readonly failures: number;
  readonly untilMs: number;
}

/**
 * Layers of which nothing came when they were filled last: each rests for itself, ever longer, so that a layer whose
 * repository is gone holds up no other. Pure: time is passed in, in ms.
 */
export class Rests<Layer extends object> {
  readonly #rests = new WeakMap<Layer, Rest>();

  /** Nothing came of it. @returns for how long it rests */
  failed(layer: Layer, nowMs: number): number {
    const failures = (this.#rests.get(layer)?.failures ?? 0) + 1;
    const pauseMs = backoffMs(failures, FIRST_FILL_PAUSE_MS, LONGEST_FILL_PAUSE_MS);
    this.#rests.set(layer, { failures, untilMs: nowMs + pauseMs });
    return pauseMs;
  }

  /** Bytes of a layer came: it rests no longer. */
  served(layer: Layer): void {
    this.#rests.delete(layer);
  }

  /** Until when it rests; undefined: it did not fail. */
  untilMs(layer: Layer): number | undefined {
    return this.#rests.get(layer)?.untilMs;
  }
}
