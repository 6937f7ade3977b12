import type { Bitfield } from '@sepia/base/bitfield';
import type { Emit } from './events.ts';
import type { CoreLimits } from './limits.ts';
import type { LinePlace } from './line/shared-line.ts';
import type { Link } from './link.ts';
import { IndexSet } from './picker.ts';
import type { Chance } from './random.ts';

/** A suggestion is late when it takes so many times as long as they do, within limits in ms. */
const LATE = 3;
const MIN_LATE_MS = 1_000;
const MAX_LATE_MS = 15_000;
/** How much one suggestion counts in how long they take. */
const TAKES_WEIGHT = 0.1;
/** In place of when it was suggested: another was suggested the piece too. */
const GIVEN_UP = -1;

/** A refusal of so many times `refusedMs` ago is one that nobody comes back for. */
const FORGOTTEN = 60;

/**
 * How an origin spends its egress: each piece is suggested (BEP 6) to one peer first; an asker of a piece that is out
 * already is sent to the peers, and served if it comes back. All pieces stay announced, so a lost peer costs nothing.
 */
export class SuperSeed {
  readonly #limits: CoreLimits;
  readonly #chance: Chance;
  readonly #line: LinePlace;
  readonly #have: Bitfield;
  readonly #given: Uint16Array;
  readonly #offered: Uint8Array;
  readonly #holders: Uint16Array;
  /** Here, and out nowhere that we know of. */
  readonly #open: IndexSet;
  /** What the peer that was given least was given: where a new one begins. */
  #least = 0;
  /** How long a suggestion takes until the peer has the piece, on average of late, in ms; at first a guess. */
  #takesMs = 1_000;

  constructor(init: {
    limits: CoreLimits;
    chance: Chance;
    line: LinePlace;
    have: Bitfield;
    holders: Uint16Array;
  }) {
    this.#limits = init.limits;
    this.#chance = init.chance;
    this.#line = init.line;
    this.#have = init.have;
    this.#holders = init.holders;
    this.#given = new Uint16Array(init.have.size);
    this.#offered = new Uint8Array(init.have.size);
    this.#open = new IndexSet(init.have.size);
    for (const index of init.have) this.#open.add(index);
  }

  /**
   * Suggests open pieces to peers that download, a little ahead of the one that got furthest: all read in order, so
   * nobody needs others yet. Whoever was given least comes first, however far behind: a peer that gets no fresh
   * pieces has nothing to give on, and its line is lost to the swarm.
   */
  offer(links: Iterable<Link>, nowMs: number, emit: Emit): void {
    const takers: Link[] = [];
    let least = Number.POSITIVE_INFINITY;
    let [peers, suggested, front] = [0, 0, 0];
    for (const link of links) {
      if (link.kind !== 'wire' || link.origin || link.isStranger || link.has.complete) continue;
      if (link.offered < 0) link.offered = this.#least;
      least = Math.min(least, link.offered);
      peers += 1;
      const awaited = this.#awaited(link, nowMs);
      suggested += awaited;
      front = Math.max(front, link.front);
      if (awaited === link.offers.size && awaited < this.#limits.suggestions) takers.push(link);
    }
    if (least !== Number.POSITIVE_INFINITY) this.#least = least;
    const isFew = peers <= this.#limits.fewPeers;
    const { openSuggestions, suggestionsLeast } = this.#limits;
    const own = Math.max(suggestionsLeast, Math.ceil(openSuggestions / this.#line.suggested.swarms()));
    const most = isFew ? own : Number.POSITIVE_INFINITY;
    const near = takers.length === 0 ? [] : this.#openFrom(front, suggested === 0);
    for (; suggested < most && near.length > 0 && takers.length > 0; suggested++) {
      const at = this.#neediest(takers);
      const link = takers[at]!;
      const [index] = near.splice(this.#chance.below(near.length), 1) as [number];
      link.offers.set(index, nowMs);
      link.offered += 1;
      this.#offered[index] = 1;
      this.#open.delete(index);
      emit({ type: 'sendSuggest', link: link.id, index });
      if (link.offers.size >= this.#limits.suggestions) takers.splice(at, 1);
    }
    this.#line.suggested.note(suggested);
  }

  /** A peer has the piece now. */
  settle(link: Link, index: number, nowMs: number): void {
    const sinceMs = link.offers.get(index);
    if (sinceMs !== undefined && sinceMs !== GIVEN_UP)
      this.#takesMs += (nowMs - sinceMs - this.#takesMs) * TAKES_WEIGHT;
    link.offers.delete(index);
    link.turnedAway.delete(index);
    this.#open.delete(index);
  }

  /** A peer is gone: what it was suggested and did not take may be suggested to another. */
  onDown(link: Link): void {
    for (const [index, sinceMs] of link.offers) if (sinceMs !== GIVEN_UP) this.#reopen(index);
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
    const patienceMs = this.#patienceMs(index, leechers);
    const waited = nowMs - (link.turnedAway.get(index) ?? Number.POSITIVE_INFINITY) >= patienceMs;
    // What was suggested to another, or a peer has, is as good as given.
    const out = Math.max(this.#given[index]!, this.#offered[index]!, this.#holders[index]!);
    if (!free && !waited && out >= this.#limits.originCopies) {
      this.#turnAway(link, index, nowMs);
      return false;
    }
    link.turnedAway.delete(index);
    this.#given[index]! += 1;
    this.#offered[index] = 1;
    this.#open.delete(index);
    return true;
  }

  /**
   * How long an asker is left to find a piece elsewhere: the longer, the more copies are out. Where few download, as long as a
   * suggestion takes: on a line with other layers on their way that is longer, and whoever comes back before gets a copy too many.
   */
  #patienceMs(index: number, leechers: number): number {
    const { refusedMs, fewPeers } = this.#limits;
    const takesMs = leechers <= fewPeers ? Math.min(MAX_LATE_MS, this.#takesMs) : 0;
    return Math.max(refusedMs, takesMs) * (this.#holders[index] === 0 ? 1 : 1 + this.#given[index]!);
  }

  /**
   * Remembers since when a peer is refused a piece, for a few pieces at once. A new one replaces the oldest only when that
   * was not requested again for long: else a peer that asks for many pieces in turn would be served none.
   */
  #turnAway({ turnedAway }: Link, index: number, nowMs: number): void {
    if (turnedAway.has(index)) return;
    if (turnedAway.size >= this.#limits.sample) {
      const [oldest, sinceMs] = turnedAway.entries().next().value!;
      if (nowMs - sinceMs < FORGOTTEN * this.#limits.refusedMs) return;
      turnedAway.delete(oldest);
    }
    turnedAway.set(index, nowMs);
  }

  /**
   * How many suggestions to this peer are still awaited. One that takes much longer than usual went to a slow peer: the piece
   * is suggested to another as well and no longer awaited, and the slow peer gets no new suggestion before it has that piece.
   */
  #awaited(link: Link, nowMs: number): number {
    const lateMs = Math.min(MAX_LATE_MS, Math.max(MIN_LATE_MS, LATE * this.#takesMs));
    let awaited = 0;
    for (const [index, sinceMs] of link.offers) {
      if (sinceMs === GIVEN_UP) continue;
      if (nowMs - sinceMs < lateMs) awaited += 1;
      else {
        link.offers.set(index, GIVEN_UP);
        this.#reopen(index);
      }
    }
    return awaited;
  }

  #reopen(index: number): void {
    if (this.#holders[index] !== 0) return;
    this.#offered[index] = 0;
    this.#open.add(index);
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

  /**
   * What is open a little way on from `front`; it is drawn from by lot, so that several origins seldom give the same.
   * `further`: where all of that is out, the next that is not, wherever it lies.
   */
  #openFrom(front: number, further: boolean): number[] {
    const near: number[] = [];
    const { size } = this.#have;
    let end = Math.min(size, front + this.#limits.seedAhead);
    for (let index = front; index < end; index++) {
      if (this.#open.has(index)) near.push(index);
      if (index === end - 1 && near.length === 0 && further && this.#open.list.length > 0)
        end = Math.min(size, end + this.#limits.seedAhead);
    }
    return near;
  }
}
