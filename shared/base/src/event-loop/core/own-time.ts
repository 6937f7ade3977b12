/** A wait is looked at so many times: what one look is late by does not count. */
const LOOKS = 8;
/** At the latest it is over after so many times its length: a process that is always late must go on too. */
const MOST = 4;

/**
 * A wait for another's answer in which one's own lateness does not count: while this process does nothing, the answer may
 * lie in its socket. The wait is cut into looks; one that comes late counts only for the time after which it was due.
 * Never shorter than what was asked for, at most `MOST` times as long, and the next begins anew. Pure: time is passed in.
 */
export class OwnTime {
  readonly #waitMs: number;
  readonly #endMs: number;
  #seenMs: number;
  /** After the last look. */
  #dueMs = 0;
  #countedMs = 0;

  constructor(waitMs: number, nowMs: number) {
    this.#waitMs = waitMs;
    this.#endMs = nowMs + MOST * waitMs;
    this.#seenMs = nowMs;
  }

  /** In how many whole ms the next look is due; 0 once the wait is over. */
  look(nowMs: number): number {
    this.#countedMs += Math.min(Math.max(0, nowMs - this.#seenMs), this.#dueMs);
    this.#seenMs = nowMs;
    const leftMs = Math.min(this.#waitMs - this.#countedMs, this.#endMs - nowMs);
    this.#dueMs = leftMs > 0 ? Math.ceil(Math.min(leftMs, this.#waitMs / LOOKS)) : 0;
    return this.#dueMs;
  }
}
