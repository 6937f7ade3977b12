import type { Bitfield } from '@sepia/base/bitfield';
import type { LinkId } from './events.ts';
import { CORE_LIMITS, type CoreLimits } from './limits.ts';
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
  readonly #eager: Link[] = [];
  /** Their places in `facts`. */
  readonly #eagerPlaces: number[] = [];
  readonly facts = new LinkFacts();
  readonly #placeOf = new Map<LinkId, number>();
  readonly #limits: CoreLimits;
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

  constructor(limits: CoreLimits = CORE_LIMITS) {
    super();
    this.#limits = limits;
  }

  /** Those that may have something that is wanted, in the order in which that was heard. */
  get eager(): readonly Link[] {
    return this.#eager;
  }

  /** Visits those that may have something that is wanted, and may be asked for more; how many pieces they are asked for. */
  forEachWithRoom(visit: (link: Link, load: number, isHttp: boolean) => void): void {
    const { facts } = this;
    const places = this.#eagerPlaces;
    for (let at = 0; at < places.length; at++) {
      const place = places[at]!;
      if (facts.room(place) > 0) visit(this.#eager[at]!, facts.load(place), facts.isHttp(place));
    }
  }

  /** Visits the wires to origins and to whom `isWith` says no of their seat, in the order in which they came. */
  forEachToTell(isWith: (seat: number) => boolean, visit: (id: LinkId) => void): void {
    for (let at = 0; at < this.#wireIds.length; at++) {
      const seat = this.#wireSeats[at]!;
      if ((seat & 1) === 1 || !isWith(seat >> 1)) visit(this.#wireIds[at]!);
    }
  }

  /** It has nothing that is wanted. */
  noteEmpty(link: Link): void {
    if (!link.isEager) return;
    link.isEager = false;
    const at = this.#eagerPlaces.indexOf(this.#placeOf.get(link.id)!);
    this.#eagerPlaces.splice(at, 1);
    this.#eager.splice(at, 1);
  }

  /** It may have something that is wanted. */
  noteNews(link: Link): void {
    if (link.isEager) return;
    link.isEager = true;
    this.#eager.push(link);
    this.#eagerPlaces.push(this.#placeOf.get(link.id)!);
  }

  /** More is wanted than was: anybody may have it. */
  noteWanting(): void {
    if (this.#eager.length < this.size) for (const link of this.values()) this.noteNews(link);
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
    const place = this.facts.take();
    this.#placeOf.set(id, place);
    link.placed({ facts: this.facts, at: place, limits: this.#limits });
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
      link.placed(undefined);
      this.facts.give(this.#placeOf.get(id)!);
      this.#placeOf.delete(id);
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

/** Of a place: how many pieces are asked for there, how many more may be, and {@link FLAGS}. */
const WIDTH = 4;
const PLACES = 64;

/** What a link is and how it stands. */
export const FLAGS = Object.freeze({
  http: 1,
  /** A member that is no origin. */
  peer: 2,
  stalled: 4,
  choked: 8,
});

/**
 * What a choice looks at of all links of a swarm: it lies together here, the links themselves are far apart in memory. Each link
 * has a place while it is in the table, and keeps what is there as it is.
 */
export class LinkFacts {
  #numbers = new Int32Array(PLACES * WIDTH);
  /** Until when a link refuses some piece, or is left alone. */
  #untilMs: number[] = [];
  readonly #free: number[] = [];
  #places = 0;

  /** A place for one more. */
  take(): number {
    const place = this.#free.pop() ?? this.#places++;
    if ((place + 1) * WIDTH > this.#numbers.length) {
      const numbers = new Int32Array(this.#numbers.length * 2);
      numbers.set(this.#numbers);
      this.#numbers = numbers;
    }
    this.#numbers.fill(0, place * WIDTH, (place + 1) * WIDTH);
    this.#untilMs[place] = Number.NEGATIVE_INFINITY;
    return place;
  }

  /** It is nobody's any more. */
  give(place: number): void {
    this.#numbers[place * WIDTH + 2] = 0;
    this.#free.push(place);
  }

  set(place: number, load: number, room: number): void {
    this.#numbers[place * WIDTH] = load;
    this.#numbers[place * WIDTH + 1] = room;
  }

  flag(place: number, flags: number): void {
    this.#numbers[place * WIDTH + 2] = flags;
  }

  until(place: number, untilMs: number): void {
    this.#untilMs[place] = untilMs;
  }

  load(place: number): number {
    return this.#numbers[place * WIDTH]!;
  }

  room(place: number): number {
    return this.#numbers[place * WIDTH + 1]!;
  }

  isHttp(place: number): boolean {
    return (this.#numbers[place * WIDTH + 2]! & FLAGS.http) !== 0;
  }

  /** Whether each peer that is no origin serves whatever it has. */
  arePeersSure(nowMs: number): boolean {
    for (let place = 0; place < this.#places; place++) {
      const flags = this.#numbers[place * WIDTH + 2]!;
      if ((flags & FLAGS.peer) === 0) continue;
      if ((flags & (FLAGS.stalled | FLAGS.choked)) !== 0 || nowMs < this.#untilMs[place]!) return false;
    }
    return true;
  }
}
