/** Weight of a new sample in the mean and in the deviation (RFC 6298). */
const MEAN_GAIN = 1 / 8;
const DEVIATION_GAIN = 1 / 4;
const DEVIATIONS = 8;

/**
 * How fast members answer, as TCP measures round trips (RFC 6298): silence is judged against it, so that a busy
 * machine is not mistaken for a dead one. Pure.
 */
export class AnswerPace {
  #meanMs: number | undefined;
  #deviationMs = 0;

  /** An answer came after `ms`. */
  note(ms: number): void {
    if (this.#meanMs === undefined) {
      this.#meanMs = ms;
      this.#deviationMs = ms / 2;
      return;
    }
    this.#deviationMs += DEVIATION_GAIN * (Math.abs(ms - this.#meanMs) - this.#deviationMs);
    this.#meanMs += MEAN_GAIN * (ms - this.#meanMs);
  }

  /** How long to wait for an answer before it counts as silence, in ms, within the given bounds. */
  timeoutMs(leastMs: number, mostMs: number): number {
    if (this.#meanMs === undefined) return leastMs;
    return Math.min(mostMs, Math.max(leastMs, this.#meanMs + DEVIATIONS * this.#deviationMs));
  }
}
