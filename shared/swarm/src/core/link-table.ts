import type { Bitfield } from '@sepia/base/bitfield';
import type { LinkId } from './events.ts';
import type { Link } from './link.ts';

/** The links of a swarm by id, and how many there are of each kind: asked after every event, so they are not counted anew. */
export class LinkTable extends Map<LinkId, Link> {
  /** Wires to members, origins among them. */
  members = 0;
  /** Wires to members that are no origins. */
  peers = 0;
  /** Wires to peers that are no members. */
  strangers = 0;
  /** Those that may have something that is wanted; {@link noteEmpty} takes one away until it has news. */
  readonly eager = new Set<Link>();
  /** Wires to origins. */
  readonly origins = new Set<Link>();
  /**
   * All wires in the order in which they came: their ids, and their seats, doubled and odd for an origin's. The links themselves are
   * far apart in memory.
   */
  readonly #wireIds: LinkId[] = [];
  readonly #wireSeats: number[] = [];
  /** Numbers that wires had who are gone, and how many there were in all. */
  readonly #freeSeats: number[] = [];
  #seats = 0;

  /** Visits the wires to origins and to whom `isWith` says no of their seat, in the order in which they came. */
  forEachToTell(isWith: (seat: number) => boolean, visit: (id: LinkId) => void): void {
    for (let at = 0; at < this.#wireIds.length; at++) {
      const seat = this.#wireSeats[at]!;
      if ((seat & 1) === 1 || !isWith(seat >> 1)) visit(this.#wireIds[at]!);
    }
  }

  /** It has nothing that is wanted. */
  noteEmpty(link: Link): void {
    link.isEager = false;
    this.eager.delete(link);
  }

  /** It may have something that is wanted. */
  noteNews(link: Link): void {
    if (link.isEager) return;
    link.isEager = true;
    this.eager.add(link);
  }

  /** More is wanted than was: anybody may have it. */
  noteWanting(): void {
    if (this.eager.size < this.size) for (const link of this.values()) this.noteNews(link);
  }

  /** What those hold together that are neither origins nor strangers; undefined while no such wire is there. */
  peerPieces(): Bitfield | undefined {
    let held: Bitfield | undefined;
    for (const link of this.values()) {
      if (link.kind !== 'wire' || link.origin || link.isStranger) continue;
      if (held === undefined) held = link.has.clone();
      else held.addAll(link.has);
    }
    return held;
  }

  override set(id: LinkId, link: Link): this {
    this.delete(id);
    this.#count(link, 1);
    this.noteNews(link);
    if (link.kind === 'wire') {
      link.seat = this.#freeSeats.pop() ?? this.#seats++;
      this.#wireIds.push(id);
      this.#wireSeats.push(link.seat * 2 + (link.origin ? 1 : 0));
    }
    if (link.kind === 'wire' && link.origin) this.origins.add(link);
    return super.set(id, link);
  }

  override delete(id: LinkId): boolean {
    const link = this.get(id);
    if (link !== undefined) {
      this.#count(link, -1);
      this.noteEmpty(link);
      this.origins.delete(link);
      if (link.seat >= 0) {
        this.#freeSeats.push(link.seat);
        const at = this.#wireIds.indexOf(id);
        this.#wireIds.splice(at, 1);
        this.#wireSeats.splice(at, 1);
      }
      link.seat = -1;
    }
    return super.delete(id);
  }

  #count(link: Link, by: number): void {
    if (link.kind !== 'wire') return;
    if (link.isStranger) this.strangers += by;
    else this.members += by;
    if (!link.isStranger && !link.origin) this.peers += by;
  }
}

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
