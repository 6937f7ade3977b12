import type { Bitfield } from '@sepia/base/bitfield';
import type { Emit } from './events.ts';
import type { CoreLimits } from './limits.ts';
import type { Link } from './link.ts';
import { IndexSet } from './picker.ts';
import type { Chance } from './random.ts';

/**
 * How an origin spends its egress: each piece is suggested (BEP 6) to one peer first; an asker of a piece that is out
 * already is sent to the peers, and served if it comes back. All pieces stay announced, so a lost peer costs nothing.
 */
export class SuperSeed {
  readonly #limits: CoreLimits;
  readonly #chance: Chance;
  readonly #have: Bitfield;
  readonly #given: Uint16Array;
  readonly #offered: Uint8Array;
  readonly #holders: Uint16Array;
  /** Here, and out nowhere that we know of. */
  readonly #open: IndexSet;
  /** The order of suggestions goes on here, and round. */
  #next: number;
  /** What the peer that was given least was given: where a new one begins. */
  #least = 0;

  constructor(init: { limits: CoreLimits; chance: Chance; have: Bitfield; holders: Uint16Array }) {
    this.#limits = init.limits;
    this.#chance = init.chance;
    this.#have = init.have;
    this.#holders = init.holders;
    this.#given = new Uint16Array(init.have.size);
    this.#offered = new Uint8Array(init.have.size);
    this.#open = new IndexSet(init.have.size);
    for (const index of init.have) this.#open.add(index);
    // Several origins that have all of it begin at different places, so that they seldom give the same.
    this.#next = init.have.complete ? init.chance.below(Math.max(1, init.have.size)) : 0;
  }

  /**
   * Suggests open pieces to peers that download. Whoever was given least comes first: a peer that gets no fresh
   * pieces has nothing to give on, and its line is lost to the swarm.
   */
  offer(links: Iterable<Link>, emit: Emit): void {
    if (this.#open.list.length === 0) return;
    const takers: Link[] = [];
    let least = Number.POSITIVE_INFINITY;
    for (const link of links) {
      if (link.kind !== 'wire' || link.origin || link.isStranger || link.has.complete) continue;
      if (link.offered < 0) link.offered = this.#least;
      least = Math.min(least, link.offered);
      if (link.offers.size < this.#limits.suggestions) takers.push(link);
    }
    if (least !== Number.POSITIVE_INFINITY) this.#least = least;
    while (this.#open.list.length > 0 && takers.length > 0) {
      const at = this.#neediest(takers);
      const link = takers[at]!;
      const index = this.#choose();
      link.offers.add(index);
      link.offered += 1;
      this.#offered[index] = 1;
      this.#open.delete(index);
      emit({ type: 'sendSuggest', link: link.id, index });
      if (link.offers.size >= this.#limits.suggestions) takers.splice(at, 1);
    }
  }

  /** A peer has the piece now. */
  settle(link: Link, index: number): void {
    link.offers.delete(index);
    this.#open.delete(index);
  }

  /** What it was offered and did not take may go to another. */
  onDown(link: Link): void {
    for (const index of link.offers) {
      if (this.#holders[index] !== 0) continue;
      this.#offered[index] = 0;
      this.#open.add(index);
    }
    link.offers.clear();
  }

  onLanded(index: number): void {
    if (this.#offered[index] === 0 && this.#holders[index] === 0) this.#open.add(index);
  }

  /** Whether to give `index` to `link` now. */
  admit(link: Link, index: number, links: Iterable<Link>, nowMs: number): boolean {
    let leechers = 0;
    for (const one of links) if (one.kind === 'wire' && !one.isStranger && !one.has.complete) leechers += 1;
    const free = leechers <= this.#limits.freeLeechers || link.offers.has(index);
    // The more copies are out, the longer an asker is left to find one.
    const patienceMs = this.#limits.refusedMs * (this.#holders[index] === 0 ? 1 : 1 + this.#given[index]!);
    const waited = nowMs - (link.turnedAway.get(index) ?? Number.POSITIVE_INFINITY) >= patienceMs;
    // What was suggested to another, or a peer has, is as good as given.
    const out = Math.max(this.#given[index]!, this.#offered[index]!, this.#holders[index]!);
    if (!free && !waited && out >= this.#limits.originCopies) {
      if (!link.turnedAway.has(index) && link.turnedAway.size < this.#limits.sample)
        link.turnedAway.set(index, nowMs);
      return false;
    }
    link.turnedAway.delete(index);
    this.#given[index]! += 1;
    this.#offered[index] = 1;
    this.#open.delete(index);
    return true;
  }

  #neediest(takers: readonly Link[]): number {
    let best = 0;
    let ties = 1;
    for (let i = 1; i < takers.length; i++) {
      const less = takers[i]!.offered - takers[best]!.offered;
      if (less > 0) continue;
      ties = less === 0 ? ties + 1 : 1;
      if (this.#chance.below(ties) === 0) best = i;
    }
    return best;
  }

  /** The next open piece in order. Where another origin has been before, it goes on elsewhere. */
  #choose(): number {
    const { size } = this.#have;
    let index = this.#next;
    while (!this.#open.has(index)) index = (index + 1) % size;
    const before = (index + size - 1) % size;
    if (this.#holders[before]! > 0 && this.#given[before] === 0)
      index = this.#open.list[this.#chance.below(this.#open.list.length)]!;
    this.#next = (index + 1) % size;
    return index;
  }
}
