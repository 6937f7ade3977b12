/** While members are served, strangers get this share of their rate, and never less than the floor, in bytes per second. */
const BUSY_SHARE = 1 / 16;
const BUSY_FLOOR = 128 * 1024;

/**
 * A bucket of bytes for all peers that are no members: their full rate while no member is served here, a trickle while
 * one is. What is left over is kept for one second at most, and one read always fits.
 */
export class StrangerRate {
  readonly #bytesPerSec: number;
  readonly #burstBytes: number;
  #tokens: number;
  #atMs: number;

  /** `readBytes`: the largest amount that is taken at once. */
  constructor(options: { readonly bytesPerSec: number; readonly readBytes: number; readonly nowMs: number }) {
    this.#bytesPerSec = Math.max(1, options.bytesPerSec);
    this.#burstBytes = Math.max(options.readBytes, this.#bytesPerSec);
    this.#tokens = this.#burstBytes;
    this.#atMs = options.nowMs;
  }

  /** Takes `bytes` and returns 0, or takes nothing and says in how many ms to ask again. */
  take(bytes: number, membersAreServed: boolean, nowMs: number): number {
    const rate = membersAreServed
      ? Math.min(this.#bytesPerSec, Math.max(BUSY_FLOOR, this.#bytesPerSec * BUSY_SHARE))
      : this.#bytesPerSec;
    const passedMs = Math.max(0, nowMs - this.#atMs);
    this.#atMs = Math.max(this.#atMs, nowMs);
    // What was saved while nobody was served is not poured out beside members.
    const room = membersAreServed ? Math.max(rate, bytes) : this.#burstBytes;
    this.#tokens = Math.min(room, this.#tokens + (rate * passedMs) / 1_000);
    if (this.#tokens >= bytes) {
      this.#tokens -= bytes;
      return 0;
    }
    return Math.ceil(((bytes - this.#tokens) * 1_000) / rate);
  }
}
