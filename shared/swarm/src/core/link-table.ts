import type { Bitfield } from '@sepia/base/bitfield';
import type { LinkId } from './events.ts';
import { CORE_LIMITS, type CoreLimits } from './limits.ts';
import type { Link } from './link.ts';

/** The links of a swarm by id, with running counts of each kind: they are read after every event. */
export class LinkTable extends Map<LinkId, Link> {
  /** Wires to members, origins among them. */
  members = 0;
  /** Wires to members that are no origins. */
  peers = 0;
  /** Wires to peers that are no members. */
  strangers = 0;
  /** Links that may have a wanted piece; {@link noteEmpty} removes one until it announces another piece. */
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
  /** Seats of wires that closed, to be given out again; `#seats`: how many seats there are in all. */
  readonly #freeSeats: number[] = [];
  #seats = 0;

  constructor(limits: CoreLimits = CORE_LIMITS) {
    super();
    this.#limits = limits;
  }

  /** Links that may have a wanted piece, in the order in which they announced one. */
  get eager(): readonly Link[] {
    return this.#eager;
  }

  /** Visits the {@link eager} links that have room for another request. `load`: pieces requested there that are not here yet. */
  forEachWithRoom(visit: (link: Link, load: number, isHttp: boolean) => void): void {
    const { facts } = this;
    const places = this.#eagerPlaces;
    for (let at = 0; at < places.length; at++) {
      const place = places[at]!;
      if (facts.room(place) > 0) visit(this.#eager[at]!, facts.load(place), facts.isHttp(place));
    }
  }

  /** Visits, in the order in which they opened, the wires to origins and those of whose seat `isWith` is false. */
  forEachToTell(isWith: (seat: number) => boolean, visit: (id: LinkId) => void): void {
    for (let at = 0; at < this.#wireIds.length; at++) {
      const seat = this.#wireSeats[at]!;
      if ((seat & 1) === 1 || !isWith(seat >> 1)) visit(this.#wireIds[at]!);
    }
  }

  /** Takes a link out of {@link eager}: it has no wanted piece. */
  noteEmpty(link: Link): void {
    if (!link.isEager) return;
    link.isEager = false;
    const at = this.#eagerPlaces.indexOf(this.#placeOf.get(link.id)!);
    this.#eagerPlaces.splice(at, 1);
    this.#eager.splice(at, 1);
  }

  /** Puts a link into {@link eager}: it may have a wanted piece. */
  noteNews(link: Link): void {
    if (link.isEager) return;
    link.isEager = true;
    this.#eager.push(link);
    this.#eagerPlaces.push(this.#placeOf.get(link.id)!);
  }

  /** More pieces are wanted than before, and any link may have them: all become {@link eager}. */
  noteWanting(): void {
    if (this.#eager.length < this.size) for (const link of this.values()) this.noteNews(link);
  }

  /** Union of the bitfields of peers that are neither origins nor strangers; undefined while there is no such wire. */
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
  /** Infinity for a link that has had its first turn. */
  readonly #lots: number[] = [];
  readonly #again: Link[] = [];
  #left = 0;
  #next = 0;

  add(link: Link, lot: number): void {
    this.#links.push(link);
    this.#lots.push(lot);
    this.#left += 1;
  }

  /** The link whose turn it is; undefined when none is left. Of equal lots, the one that was added last. */
  next(): Link | undefined {
    if (this.#left === 0) return this.#again[this.#next++];
    const lots = this.#lots;
    let least = 0;
    for (let at = 1; at < lots.length; at++) if (lots[at]! <= lots[least]!) least = at;
    lots[least] = Number.POSITIVE_INFINITY;
    this.#left -= 1;
    return this.#links[least];
  }

  /** Gives a link one more turn, after all others. */
  again(link: Link): void {
    this.#again.push(link);
  }
}

/** Numbers per place: load (pieces requested), room (pieces that may still be requested), {@link FLAGS}, and one unused. */
const WIDTH = 4;
const PLACES = 64;

/** Kind and state of a link, as bits of one number. */
export const FLAGS = Object.freeze({
  http: 1,
  /** A member that is no origin. */
  peer: 2,
  stalled: 4,
  choked: 8,
});

/**
 * The facts by which a link is chosen, for all links of a swarm in one array: the link objects are far apart in memory, and
 * slow to walk. Each link has a place while it is in the table, and keeps its own facts up to date.
 */
export class LinkFacts {
  #numbers = new Int32Array(PLACES * WIDTH);
  /** By place: until when the link refuses some piece, or is paused. */
  #untilMs: number[] = [];
  readonly #free: number[] = [];
  #places = 0;

  /** Takes a free place. */
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

  /** Gives a place back. */
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

  /** True if each peer that is no origin would serve every piece it has: none is stalled, choking, refusing or paused. */
  arePeersSure(nowMs: number): boolean {
    for (let place = 0; place < this.#places; place++) {
      const flags = this.#numbers[place * WIDTH + 2]!;
      if ((flags & FLAGS.peer) === 0) continue;
      if ((flags & (FLAGS.stalled | FLAGS.choked)) !== 0 || nowMs < this.#untilMs[place]!) return false;
    }
    return true;
  }
}
