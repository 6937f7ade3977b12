import type { Digest } from '@sepia/base/digest';

/** Where a scrub stands; it is kept over restarts. A pass looks at every blob once, in order of the walk. */
export interface ScrubPlace {
  /** When this pass began, by the wall clock. */
  readonly beganMs: number;
  /** The last blob that it looked at; undefined: none yet. */
  readonly after?: Digest;
  /** True once it looked at all of them. */
  readonly isOver?: boolean;
}

/** A blob costs at least this much of the rate, however small: it is opened and its sidecar is read. */
const LEAST_BYTES = 32 * 1024;
/** Pauses are at least this long, in ms: a member that is idle wakes seldom. */
const LEAST_PAUSE_MS = 1_000;
/** Passes begin no sooner one after the other, in ms: an empty disk is looked through at once. */
const LEAST_EVERY_MS = 1_000;
/** Time that was not used is not made up for later, beyond this, in ms. */
const CREDIT_MS = 1_000;

/** The pass to go on with, or how long to wait for the next one. A clock that was set back delays none beyond `everyMs`. */
export function nextPass(
  place: ScrubPlace | undefined,
  nowMs: number,
  everyMs: number,
): { readonly waitMs: number } | { readonly place: ScrubPlace } {
  if (place === undefined) return { place: { beganMs: nowMs } };
  const beganMs = Math.min(place.beganMs, nowMs);
  if (place.isOver !== true) return { place: { ...place, beganMs } };
  const waitMs = beganMs + Math.max(everyMs, LEAST_EVERY_MS) - nowMs;
  return waitMs > 0 ? { waitMs } : { place: { beganMs: nowMs } };
}

/** Keeps a scrub at so many bytes a second on average, with small reads counted as larger ones; times are those of the caller. */
export class ScrubPace {
  readonly #bytesPerSec: number;
  #dueMs = Number.NEGATIVE_INFINITY;

  constructor(bytesPerSec: number) {
    this.#bytesPerSec = bytesPerSec;
  }

  /** So many bytes of a blob were read: how long to pause now, in ms. */
  read(bytes: number, nowMs: number): number {
    const costMs = (Math.max(bytes, LEAST_BYTES) / this.#bytesPerSec) * 1_000;
    this.#dueMs = Math.max(this.#dueMs, nowMs - CREDIT_MS) + costMs;
    const aheadMs = this.#dueMs - nowMs;
    return aheadMs < LEAST_PAUSE_MS ? 0 : aheadMs;
  }
}
