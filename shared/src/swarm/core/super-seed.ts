import type { Bitfield } from '../../bitfield.ts';
import type { Emit } from './events.ts';
import type { CoreLimits } from './limits.ts';
import type { Link } from './link.ts';
import type { Chance } from './random.ts';

/**
 * How an origin spends its egress: each piece is suggested (BEP 6) to one peer first; an asker of a piece that went
 * out already is sent to the peers, and served if it comes back. All pieces stay announced, so a lost peer costs nothing.
 */
export class SuperSeed {
  readonly #limits: CoreLimits;
  readonly #chance: Chance;
  readonly #have: Bitfield;
  readonly #given: Uint16Array;
  readonly #offered: Uint8Array;
  readonly #holders: Uint16Array;
  #cursor = 0;

  constructor(init: { limits: CoreLimits; chance: Chance; have: Bitfield; holders: Uint16Array }) {
    this.#limits = init.limits;
    this.#chance = init.chance;
    this.#have = init.have;
    this.#holders = init.holders;
    this.#given = new Uint16Array(init.have.size);
    this.#offered = new Uint8Array(init.have.size);
  }

  /** Suggests pieces that nobody has or was offered, to a peer that downloads. */
  offer(link: Link, emit: Emit): void {
    const rate = Math.ceil((link.rateBytesPerSec * 0.3) / 2 ** 20);
    const want = Math.min(this.#limits.suggestionsMax, Math.max(this.#limits.suggestionsMin, rate));
    while (link.offers.size < want) {
      const index = this.#next(link);
      if (index < 0) return;
      link.offers.add(index);
      this.#offered[index] = 1;
      emit({ type: 'sendSuggest', link: link.id, index });
    }
  }

  /** The link has the piece, or is gone: what it was offered and did not take may go to another. */
  settle(link: Link, index: number): void {
    if (!link.offers.delete(index)) return;
    if (this.#holders[index] === 0 && !link.has.has(index)) this.#reopen(index);
  }

  onDown(link: Link): void {
    for (const index of link.offers) if (this.#holders[index] === 0) this.#reopen(index);
    link.offers.clear();
  }

  /** A piece landed: it may lie before the cursor. */
  onLanded(index: number): void {
    this.#cursor = Math.min(this.#cursor, index);
  }

  /** Whether to give `index` to `link` now. */
  admit(link: Link, index: number, leechers: number, nowMs: number): boolean {
    const free = leechers <= this.#limits.freeLeechers || link.offers.has(index);
    // The more copies are out, the longer an asker is left to find one.
    const patienceMs = this.#limits.refusedMs * (this.#holders[index] === 0 ? 1 : 1 + this.#given[index]!);
    const waited = nowMs - (link.turnedAway.get(index) ?? Number.POSITIVE_INFINITY) >= patienceMs;
    const spent = this.#given[index]! >= this.#limits.originCopies;
    if (!free && !waited && spent) {
      if (!link.turnedAway.has(index) && link.turnedAway.size < this.#limits.sample)
        link.turnedAway.set(index, nowMs);
      return false;
    }
    link.turnedAway.delete(index);
    this.#given[index]! += 1;
    this.#offered[index] = 1;
    return true;
  }

  #reopen(index: number): void {
    this.#offered[index] = 0;
    this.#cursor = Math.min(this.#cursor, index);
  }

  /** Lot among the first pieces that are out nowhere: near the front, yet two origins seldom choose alike. */
  #next(link: Link): number {
    const found: number[] = [];
    let seen = false;
    for (
      let index = this.#cursor;
      index < this.#have.size && found.length < this.#limits.suggestWindow;
      index++
    ) {
      const open = this.#offered[index] === 0 && this.#holders[index] === 0;
      if (!open) {
        if (!seen && this.#have.has(index)) this.#cursor = index + 1;
        else seen = true;
        continue;
      }
      seen = true;
      if (this.#have.has(index) && !link.has.has(index)) found.push(index);
    }
    return found.length === 0 ? -1 : found[this.#chance.below(Math.min(found.length, 8))]!;
  }
}
