import { backoffMs } from '@sepia/base/async/backoff';
import { Bitfield } from '@sepia/base/bitfield';
import { PIECE_BYTES } from '@sepia/metainfo/tree';
import type { LinkId, LinkKind } from './events.ts';
import type { CoreLimits } from './limits.ts';
import { Rate } from './line/rate.ts';
import type { Senders } from './line/shared-line.ts';
import { FLAGS, type LinkFacts } from './link-table.ts';

/** One piece on its way over one link. */
export interface Fetch {
  readonly startedMs: number;
  lastByteMs: number;
  bytes: number;
}

/** How long our own line needs for all pieces in flight, in ms: `ms` by its best rate of late, `longMs` by its rate of now. */
export interface OwnLine {
  readonly ms: number;
  readonly longMs: number;
}

const RATE_WINDOW_MS = 100;
const RTT_WEIGHT = 0.3;
/** A longer wait for the first bytes counts as this, in ms. */
const MAX_RTT_MS = 10_000;
/** What the core knows of one source: what it has, what it was asked for, how fast it is. */
export class Link {
  readonly kind: LinkKind;
  /** A standard BitTorrent client: a source beside the others, for which nothing waits. */
  readonly isStranger: boolean;
  /** It is among {@link LinkTable.eager}. */
  isEager = false;
  /** Pieces requested from it that are not here yet: a copy of `fetches.size`, which is further away in memory. */
  load = 0;
  /** How many pieces in flight keep it busy for a round trip and 50 ms. */
  #busy = 0;
  readonly has: Bitfield;
  /** Its number among the open wires, given to another one once it closed; −1: none. */
  seat = -1;
  readonly origin: boolean;
  #stalled = false;
  #choked: boolean;
  notBeforeMs = 0;
  readonly id: LinkId;
  readonly zone: string;
  readonly httpHas: ((index: number) => boolean) | undefined;
  readonly #fetches = new Map<number, Fetch>();
  /** Piece → not before this time. */
  #refused: Map<number, number> | undefined;
  #refusesUntilMs = Number.NEGATIVE_INFINITY;
  #suggested: Set<number> | undefined;
  readonly peerId: string;
  readonly #senders: Senders | undefined;
  readonly dialled: boolean;
  readonly upMs: number;
  #offers: Map<number, number> | undefined;
  #turnedAway: Map<number, number> | undefined;
  /** How many pieces we suggested to it; −1: none yet. */
  offered = -1;
  rttMs = 30;
  lastByteMs: number;
  failures = 0;
  readonly #rate: Rate;
  #front = 0;
  /** Its place in the {@link LinkFacts} of its table; undefined while it is in none. */
  #place: { readonly facts: LinkFacts; readonly at: number; readonly limits: CoreLimits } | undefined;

  constructor(init: {
    id: LinkId;
    kind: LinkKind;
    peerId: string;
    origin: boolean;
    zone: string;
    dialled: boolean;
    isStranger?: boolean;
    nowMs: number;
    pieceCount: number;
    httpHas?: (index: number) => boolean;
    senders?: Senders;
  }) {
    this.id = init.id;
    this.kind = init.kind;
    this.peerId = init.peerId;
    this.origin = init.origin;
    this.zone = init.zone;
    this.dialled = init.dialled;
    this.isStranger = init.isStranger ?? false;
    this.#choked = this.isStranger;
    this.upMs = init.nowMs;
    this.lastByteMs = init.nowMs;
    this.#rate = new Rate(init.nowMs, RATE_WINDOW_MS);
    this.has = new Bitfield(init.kind === 'wire' ? init.pieceCount : 0);
    this.httpHas = init.httpHas;
    this.#senders = init.senders;
  }

  /** Sets, or takes away, its place in the {@link LinkFacts} of its table. */
  placed(
    place: { readonly facts: LinkFacts; readonly at: number; readonly limits: CoreLimits } | undefined,
  ): void {
    this.#count(-this.load);
    this.#place = place;
    this.#count(this.load);
    this.#noteLoad();
    this.#noteState();
  }

  /** Pieces are requested from it, and nothing comes. */
  get stalled(): boolean {
    return this.#stalled;
  }

  set stalled(is: boolean) {
    if (this.#stalled === is) return;
    this.#stalled = is;
    this.#noteState();
  }

  /** It serves nothing now (BEP 3); members never choke. */
  get choked(): boolean {
    return this.#choked;
  }

  get fetches(): ReadonlyMap<number, Fetch> {
    return this.#fetches;
  }

  /** It did not deliver a piece, which is not requested from it again before `untilMs`. */
  refuse(index: number, untilMs: number): void {
    this.#refused ??= new Map();
    this.#refused.set(index, untilMs);
    this.#refusesUntilMs = Math.max(this.#refusesUntilMs, untilMs);
    this.#noteState();
  }

  /** True while there may be a piece that is not requested from it because it refused it of late. */
  refuses(nowMs: number): boolean {
    return nowMs < this.#refusesUntilMs;
  }

  get suggested(): Set<number> {
    this.#suggested ??= new Set();
    return this.#suggested;
  }

  suggests(index: number): boolean {
    return this.#suggested?.has(index) === true;
  }

  get isSuggesting(): boolean {
    return this.#suggested !== undefined && this.#suggested.size > 0;
  }

  /** Our suggestions to it (super-seeding): since when; and when it was refused which piece. */
  get offers(): Map<number, number> {
    this.#offers ??= new Map();
    return this.#offers;
  }

  get turnedAway(): Map<number, number> {
    this.#turnedAway ??= new Map();
    return this.#turnedAway;
  }

  choke(on: boolean): void {
    this.#choked = on;
    this.#noteState();
  }

  canServe(index: number, nowMs: number): boolean {
    if (!(this.httpHas === undefined ? this.has.has(index) : this.httpHas(index))) return false;
    if (this.stalled || this.choked || nowMs < this.notBeforeMs || this.#fetches.has(index)) return false;
    const until = this.#refused?.get(index);
    if (until === undefined) return true;
    if (nowMs < until) return false;
    this.#refused?.delete(index);
    return true;
  }

  /** Index of the first piece that it lacks; the number of pieces if it has all. */
  get front(): number {
    const at = this.has.nextMissing(this.#front);
    this.#front = at < 0 ? this.has.size : at;
    return this.#front;
  }

  get rateBytesPerSec(): number {
    return this.#rate.bytesPerSec;
  }

  /** Pieces to ask for at once: what keeps the link busy over one round trip and 50 ms, from measurement. */
  depth(limits: CoreLimits): number {
    if (this.kind === 'http') return limits.httpDepth;
    if (this.isStranger) return limits.strangerDepth;
    return Math.min(limits.depthMax, Math.max(limits.depthMin, 1 + this.#busy));
  }

  room(limits: CoreLimits): number {
    return this.depth(limits) - this.load;
  }

  /** What one more piece would wait here, ms. Unknown links count as 20 MB/s. */
  costMs(): number {
    const rate = this.rateBytesPerSec > 0 ? this.rateBytesPerSec : 20e6;
    return ((this.load + 1) * PIECE_BYTES * 1000) / rate + this.rttMs;
  }

  onBytes(index: number, bytes: number, nowMs: number): void {
    const fetch = this.#fetches.get(index);
    if (fetch !== undefined) {
      if (fetch.bytes === 0 && this.load === 1)
        this.rttMs += (Math.min(MAX_RTT_MS, nowMs - fetch.startedMs) - this.rttMs) * RTT_WEIGHT;
      fetch.bytes += bytes;
      fetch.lastByteMs = nowMs;
    }
    this.lastByteMs = nowMs;
    this.stalled = false;
    this.#rate.add(bytes, nowMs);
    const busy = Math.ceil((this.rateBytesPerSec * (this.rttMs + 50)) / 1000 / PIECE_BYTES);
    if (busy === this.#busy) return;
    this.#busy = busy;
    this.#noteLoad();
  }

  /**
   * Updates `stalled`. True if it has been silent for so long that it is to be given up: one that is silent for less than our
   * own line needs may only be waiting its turn there.
   */
  checkSilence(limits: CoreLimits, nowMs: number, line: OwnLine): boolean {
    const silentMs = nowMs - this.lastByteMs;
    if (this.load === 0) {
      // A stalled wire whose pieces came from elsewhere is tried again after a pause.
      if (this.stalled && silentMs > 4 * limits.stallMs) this.stalled = false;
      return false;
    }
    // Once it is, only bytes show that it is not: the line may seem slower by then.
    this.stalled ||= silentMs >= Math.max(limits.stallMs, line.ms);
    return silentMs >= Math.max(limits.hungMs * (this.kind === 'http' ? 3 : 1), 2 * line.longMs);
  }

  /** Pauses it, for twice as long after each failure. */
  pause(limits: CoreLimits, nowMs: number): void {
    this.failures += 1;
    this.notBeforeMs = nowMs + backoffMs(this.failures, limits.backoffMinMs, limits.backoffMaxMs);
    this.#noteState();
  }

  /** A link that was idle measures anew: idle time is not slowness. */
  begin(index: number, nowMs: number): void {
    if (this.load === 0) {
      this.#rate.restart(nowMs);
      this.lastByteMs = nowMs;
    }
    if (!this.#fetches.has(index)) this.#count(1);
    this.#fetches.set(index, { startedMs: nowMs, lastByteMs: nowMs, bytes: 0 });
    this.load = this.#fetches.size;
    this.#noteLoad();
    this.#suggested?.delete(index);
  }

  /** It brought the piece, or will not bring it. */
  end(index: number): void {
    if (this.#fetches.delete(index)) this.#count(-1);
    this.load = this.#fetches.size;
    this.#noteLoad();
  }

  /** So many more pieces are on their way from its machine; counted while it is in a table. */
  #count(pieces: number): void {
    if (pieces !== 0 && this.#place !== undefined) this.#senders?.add(this.peerId, pieces);
  }

  #noteLoad(): void {
    if (this.#place !== undefined)
      this.#place.facts.set(this.#place.at, this.load, this.room(this.#place.limits));
  }

  #noteState(): void {
    if (this.#place === undefined) return;
    const { facts, at } = this.#place;
    const isPeer = this.kind === 'wire' && !this.isStranger && !this.origin;
    facts.flag(
      at,
      (this.kind === 'http' ? FLAGS.http : 0) |
        (isPeer ? FLAGS.peer : 0) |
        (this.#stalled ? FLAGS.stalled : 0) |
        (this.#choked ? FLAGS.choked : 0),
    );
    facts.until(at, Math.max(this.#refusesUntilMs, this.notBeforeMs));
  }
}

/** The wire to a peer, if there is one. */
export function wireOf(links: Iterable<Link>, peerId: string): Link | undefined {
  for (const link of links) if (link.kind === 'wire' && link.peerId === peerId) return link;
  return undefined;
}

/** What a core makes a link from, beside what it adds to each. */
export type LinkOf = Omit<ConstructorParameters<typeof Link>[0], 'id' | 'nowMs' | 'pieceCount' | 'senders'>;
