import { boundedMs } from '@sepia/base/bounded-ms';

/** Weight of a new sample in the mean and in the deviation (RFC 6298). */
const MEAN_GAIN = 1 / 8;
const DEVIATION_GAIN = 1 / 4;
const DEVIATIONS = 8;
/** A sample above this is taken for it, in ms: one answer of a machine that slept must not be remembered for long. */
const MOST_SAMPLE_MS = 60_000;
/** The wait doubles with each round in which nobody answered, up to this factor. */
const MOST_BACKOFF = 64;

/**
 * How fast members answer, as TCP measures round trips (RFC 6298): silence is judged against it, so that a busy
 * machine is not mistaken for a dead one. Pure. The wait is always whole ms within the caller's bounds. Ways back: when
 * nobody answers in time there are no samples, so the wait doubles until somebody does; and quick answers bring it
 * down again.
 */
export class AnswerPace {
  #meanMs: number | undefined;
  #deviationMs = 0;
  #backoff = 1;

  /** Notes that an answer came after `ms`. */
  note(ms: number): void {
    if (Number.isNaN(ms)) return;
    const sampleMs = Math.min(MOST_SAMPLE_MS, Math.max(0, ms));
    this.#backoff = 1;
    if (this.#meanMs === undefined) {
      this.#meanMs = sampleMs;
      this.#deviationMs = sampleMs / 2;
      return;
    }
    this.#deviationMs += DEVIATION_GAIN * (Math.abs(sampleMs - this.#meanMs) - this.#deviationMs);
    this.#meanMs += MEAN_GAIN * (sampleMs - this.#meanMs);
  }

  /** Nobody answered in time: perhaps the wait is too short. */
  missed(): void {
    this.#backoff = Math.min(MOST_BACKOFF, this.#backoff * 2);
  }

  /** How long to wait for an answer before it counts as silence: whole ms within the given bounds. */
  timeoutMs(leastMs: number, mostMs: number): number {
    const measuredMs = this.#meanMs === undefined ? leastMs : this.#meanMs + DEVIATIONS * this.#deviationMs;
    return boundedMs(Math.max(leastMs, measuredMs) * this.#backoff, leastMs, mostMs);
  }
}
