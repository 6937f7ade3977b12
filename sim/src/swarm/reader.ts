import type { Bitfield } from '@sepia/base/bitfield';
import type { SwarmEvent } from '@sepia/swarm/core/events';

/** Somebody who reads the blob from its begin, as fast as it comes. */
export class SimReader {
  /** The longest that it stood before a piece whose hash was known. */
  waitMs = 0;
  /** When it opened the blob. */
  openMs = 0;
  /** When half of the stream had reached it. */
  halfMs: number | undefined;
  readonly #have: Bitfield;
  readonly #knows: (index: number) => boolean;
  #at = 0;
  #sinceMs = 0;

  constructor(have: Bitfield, knows: (index: number) => boolean) {
    this.#have = have;
    this.#knows = knows;
  }

  /** It opens the blob. */
  open(nowMs: number): SwarmEvent {
    this.#sinceMs = nowMs;
    this.openMs = nowMs;
    return { type: 'reader', reader: 0, index: 0 };
  }

  /** The hash of a piece became known. */
  onKnown(index: number, nowMs: number): void {
    if (index === this.#at) this.#sinceMs = nowMs;
  }

  /** Reads on, after a piece was written; what the core is to be told, if it moved. */
  read(nowMs: number): SwarmEvent | undefined {
    const at = this.#have.nextMissing(this.#at);
    if (at === this.#at) return undefined;
    this.waitMs = Math.max(this.waitMs, nowMs - this.#sinceMs);
    this.#at = at < 0 ? this.#have.size : at;
    if (this.#at >= this.#have.size / 2) this.halfMs ??= nowMs;
    this.#sinceMs = at >= 0 && this.#knows(at) ? nowMs : Number.POSITIVE_INFINITY;
    return at < 0 ? { type: 'readerClosed', reader: 0 } : { type: 'reader', reader: 0, index: at };
  }
}
