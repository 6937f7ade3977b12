/** So many bytes a second; what was not used in the last second may be used at once. */
export class RateBudget {
  readonly #perSec: number;
  #freeAtMs = 0;

  constructor(perSec: number) {
    this.#perSec = perSec;
  }

  /** Takes `amount`; returns the ms to wait before it is used. */
  take(amount: number, nowMs: number): number {
    const startMs = Math.max(this.#freeAtMs, nowMs - 1_000);
    this.#freeAtMs = startMs + (amount * 1_000) / this.#perSec;
    return Math.max(0, Math.round(startMs - nowMs));
  }
}
