/** So few bytes say nothing of a body that goes on. */
const LEAST_BYTES = 1024;

/**
 * Tells a body that trickles from one that pauses: single bytes, each in time, would keep a connection for days that is never silent.
 * Pure: the time that was waited is passed in.
 */
export class Trickle {
  readonly #withinMs: number;
  #bytes = 0;
  #waitedMs = 0;
  #longestMs = 0;

  /** `withinMs`: as long as less than {@link LEAST_BYTES} may take, beside one pause. */
  constructor(withinMs: number) {
    this.#withinMs = withinMs;
  }

  /** `bytes` came after `waitedMs`, the time that whoever takes them needs not counted; true if it only trickles. */
  came(bytes: number, waitedMs: number): boolean {
    this.#bytes += bytes;
    this.#waitedMs += waitedMs;
    this.#longestMs = Math.max(this.#longestMs, waitedMs);
    if (this.#bytes < LEAST_BYTES) return this.#waitedMs - this.#longestMs >= this.#withinMs;
    this.#bytes = this.#waitedMs = this.#longestMs = 0;
    return false;
  }
}
