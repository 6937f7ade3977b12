import type { Link } from './link.ts';

/**
 * Links in turn: each once in the order of its lot, the least first, then those that came {@link again}, round after round. Most
 * choices end with the first, so nothing is sorted.
 */
export class Turns {
  readonly #links: Link[] = [];
  /** Infinite for whom has had its first turn. */
  readonly #lots: number[] = [];
  readonly #again: Link[] = [];
  #left = 0;
  #next = 0;

  add(link: Link, lot: number): void {
    this.#links.push(link);
    this.#lots.push(lot);
    this.#left += 1;
  }

  /** Whose turn it is; undefined where nobody is left. Of equal lots the one that was added last. */
  next(): Link | undefined {
    if (this.#left === 0) return this.#again[this.#next++];
    const lots = this.#lots;
    let least = 0;
    for (let at = 1; at < lots.length; at++) if (lots[at]! <= lots[least]!) least = at;
    lots[least] = Number.POSITIVE_INFINITY;
    this.#left -= 1;
    return this.#links[least];
  }

  /** It is to have one more turn, after all others. */
  again(link: Link): void {
    this.#again.push(link);
  }
}
