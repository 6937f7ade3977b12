import { PIECE_BYTES } from '@sepia/metainfo/tree';
import type { Asking } from './asking.ts';
import type { Emit, LinkId } from './events.ts';
import type { CoreLimits } from './limits.ts';
import type { LinePlace } from './line/shared-line.ts';
import type { Link, OwnLine } from './link.ts';
import { type LinkTable, Turns } from './link-table.ts';
import { type PickView, pickPiece } from './picker.ts';
import type { PieceTable } from './pieces.ts';
import type { Chance } from './random.ts';
import type { Readers } from './readers.ts';

/** What the choice of fetches looks at; it stays the core's. */
export interface FetchingDeps {
  readonly limits: CoreLimits;
  readonly chance: Chance;
  readonly pieces: PieceTable;
  readonly links: LinkTable;
  readonly readers: Readers;
  readonly asking: Asking;
  readonly line: LinePlace;
}

/** Which pieces are asked of which links now: readers' first, then each link as deep as it bears, then the late ones twice. */
export class Fetching {
  readonly #deps: FetchingDeps;
  /** No slab is free: nothing is asked until one is. */
  noBuffers = false;
  /** {@link PieceTable.grown} when links were last gone through. */
  #grown = -1;

  constructor(deps: FetchingDeps) {
    this.#deps = deps;
  }

  /** Requests what may be requested now. `heads`: some link may have got a piece that a reader waits for. */
  schedule(nowMs: number, emit: Emit, heads: boolean): void {
    const { limits, pieces, asking } = this.#deps;
    if (this.noBuffers) return;
    if (heads && pieces.wanted.list.length > 0) this.#readerHeads(nowMs, emit);
    if (!this.mayAskMore) return;
    let sure: boolean | undefined;
    const areSure = (): boolean => {
      sure ??= asking.arePeersSure(nowMs);
      return sure;
    };
    const view: PickView = {
      limits,
      chance: this.#deps.chance,
      wanted: pieces.wanted.list,
      isWanted: (index) => pieces.wanted.has(index),
      rarity: (index) => pieces.rarity(index),
      isAlone: asking.isAlone(),
      peers: asking.peerCount(),
      isReading: this.#deps.readers.areMoving(limits.readerMovesMs, nowMs),
      readers: [...this.#deps.readers.values()].map((reader) => reader.index),
      mayAsk: (link, index, urgent) => asking.mayAsk(link, index, urgent, nowMs, areSure),
      mayAskNothing: (link) => asking.mayAskNothing(link, areSure),
    };
    // One more piece of each in turn: the load spreads over all that can bear it.
    const turns = this.#byLoad(nowMs);
    for (let link = turns.next(); link !== undefined && this.mayAskMore; link = turns.next()) {
      const hasRoom = link.room(limits) > 0;
      const index = hasRoom ? pickPiece(view, link) : -1;
      if (index >= 0) {
        this.#fetch(link, index, nowMs, emit);
        turns.again(link);
      } else if (hasRoom && !view.isAlone) {
        // Who is alone looked at its window only.
        asking.noteEmpty(link, nowMs);
      }
    }
  }

  /**
   * What our line brings in a short while, or its share where other swarms use it too: more would only wait in somebody's queue. Where few pieces are
   * left to choose from (the end, or the front of a blob that still arrives) the queues are shorter.
   */
  get target(): number {
    const { limits, pieces, asking, line } = this.#deps;
    const swarms = line.asked.swarms();
    const few = pieces.wanted.list.length < 2 * limits.inFlight;
    const share = few || asking.isAlone() ? 1 : this.#queueShare();
    const ms = few ? limits.inFlightFewMs : limits.inFlightMs * share;
    const busy = Math.ceil((line.rate.bytesPerSec * ms) / 1000 / 2 ** 20 / swarms);
    const least = Math.max(this.#least, Math.ceil((limits.inFlightMin * share) / swarms));
    return Math.min(limits.inFlight, Math.max(least, busy));
  }

  /** Pieces that each of several swarms may ask for in any case; one where our line needs long for what all of them then ask. */
  get #least(): number {
    const { limits, line } = this.#deps;
    const swarms = line.asked.swarms();
    if (swarms === 1) return 0;
    const ms = limits.inFlightLeast * swarms * pieceMs(line.rate.bestPerSec);
    return ms > limits.sharedQueueMs ? 1 : limits.inFlightLeast;
  }

  /** Half with few peers, all with twice as many: the more share a sender, the longer a piece waits its turn there. */
  #queueShare(): number {
    const { limits, asking } = this.#deps;
    return Math.min(1, Math.max(0.5, asking.peerCount() / (2 * limits.fewPeers)));
  }

  /** True if one more piece may be requested, provided that a link has one that is wanted. */
  get mayAskMore(): boolean {
    const { pieces } = this.#deps;
    return pieces.wanted.list.length > 0 && pieces.inFlight.size < this.target && !this.noBuffers;
  }

  /** Links that have room, the least busy first, ties by lot. */
  #byLoad(nowMs: number): Turns {
    const { links, chance, asking, pieces, line } = this.#deps;
    if (this.#grown !== pieces.grown) links.noteWanting();
    this.#grown = pieces.grown;
    const turns = new Turns();
    const isShared = line.asked.swarms() > 1;
    links.forEachWithRoom((link, load, isHttp) => {
      if (!isHttp || asking.mayAskHttp(nowMs)) {
        // A peer of which other swarms wait for much is busy, whatever this one asked of it.
        const asked = isShared && !isHttp ? line.senders.of(link.peerId) : load;
        turns.add(link, asked + chance.next());
      }
    });
    return turns;
  }

  /** Looks for fetches that are late; called with the tick. */
  hedge(nowMs: number, emit: Emit): void {
    for (const [index, ids] of this.#deps.pieces.inFlight) this.#hedge(index, ids, nowMs, emit);
  }

  /** The pieces straight in front of a reader go to whoever brings them soonest. */
  #readerHeads(nowMs: number, emit: Emit): void {
    for (const reader of this.#deps.readers.values()) {
      const end = Math.min(reader.last + 1, reader.index + this.#deps.limits.readerHead);
      for (let index = reader.index; index < end; index++) {
        if (!this.#deps.pieces.wanted.has(index) || this.noBuffers) continue;
        if (!reader.fresh && this.#mayWait(index, nowMs)) continue;
        const best = this.#deps.asking.soonest(index, nowMs, true);
        if (best !== undefined) this.#fetch(best, index, nowMs, emit);
      }
    }
  }

  /** Where each swarm has one piece on its way it is not always the next that is read: all members would want the same of one holder. */
  #mayWait(index: number, nowMs: number): boolean {
    const { limits, readers } = this.#deps;
    return this.#least === 1 && readers.waitedMs(index, nowMs) < limits.readerLateMs;
  }

  /** A fetch that does not move, or that the endgame can beat, gets a second source. */
  #hedge(index: number, ids: readonly LinkId[], nowMs: number, emit: Emit): void {
    const { limits, asking, pieces } = this.#deps;
    if (ids.length >= limits.fetchers + this.#stalledAmong(ids) || this.noBuffers) return;
    const waitedMs = this.#deps.readers.waitedMs(index, nowMs);
    if (waitedMs >= this.#readerLateMs(nowMs) && this.#overtake(index, ids, nowMs, emit)) return;
    const urgent = waitedMs >= this.#stallMs(nowMs, true);
    const { stuck, youngestMs } = this.#ageOf(index, ids, urgent, nowMs);
    const nearEnd = pieces.wanted.list.length === 0 && pieces.inFlight.size <= limits.endgame;
    const isSlow = nearEnd || this.#isWithStrangers(ids);
    if (!stuck && (!isSlow || youngestMs < limits.endgameMinMs)) return;
    const best = asking.soonest(index, nowMs, stuck);
    if (best === undefined || (best.room(limits) <= 0 && !urgent)) return;
    if (!stuck && youngestMs < this.#costMs(best) * limits.endgameFactor) return;
    this.#fetch(best, index, nowMs, emit);
  }

  /** A reader waits for a piece that comes, but slowly: another wire is asked too where it is much sooner. */
  #overtake(index: number, ids: readonly LinkId[], nowMs: number, emit: Emit): boolean {
    const best = this.#deps.asking.soonest(index, nowMs, true);
    if (best?.kind !== 'wire' || 2 * this.#costMs(best) >= this.#leftMs(index, ids, nowMs)) return false;
    this.#fetch(best, index, nowMs, emit);
    return true;
  }

  /** `longMs` counts whatever is silent: a wire that is closed too early begins its pieces anew, for ever on a line that is slow enough. */
  line(nowMs: number): OwnLine {
    return { ms: this.#lineMs(nowMs), longMs: this.#needMs(this.#deps.line.rate.bytesPerSec) };
  }

  /** 0 once nothing at all came while the line could have brought three pieces: then it is not the line that holds them up. */
  #lineMs(nowMs: number): number {
    const { limits, line } = this.#deps;
    const { rate } = line;
    const silentMs = Math.max(limits.stallMs, Math.min(3 * pieceMs(rate.bestPerSec), 2 * limits.hungMs));
    return rate.silentMs(nowMs) >= silentMs ? 0 : this.#needMs(rate.bestPerSec);
  }

  /** What one more piece of a link would take, ms: our line has what is on its way to other swarms to bring, too. */
  #costMs(link: Link): number {
    return link.costMs() + this.#othersMs;
  }

  /** What our line needs for what is on its way to other swarms, ms. */
  get #othersMs(): number {
    const { line, pieces } = this.#deps;
    return (this.#onItsWay - pieces.inFlight.size) * pieceMs(line.rate.bestPerSec);
  }

  /** Pieces on their way over our line, of all swarms. */
  get #onItsWay(): number {
    return this.#deps.line.asked.total(this.#deps.pieces.inFlight.size);
  }

  /** What all that is on its way needs at that rate, ms; 0 before one was measured. */
  #needMs(bytesPerSec: number): number {
    return Math.min(this.#deps.limits.lineMs, this.#onItsWay * pieceMs(bytesPerSec));
  }

  /** From when on a silent fetch is late; `isRead`: a reader waits for it, and where a line is not very slow not for long. */
  #stallMs(nowMs: number, isRead: boolean): number {
    const { limits } = this.#deps;
    const { rate } = this.#deps.line;
    const mostMs = isRead ? Math.max(limits.readerHttpMs, 3 * pieceMs(rate.bestPerSec)) : limits.lineMs;
    return Math.max(limits.stallMs, Math.min(this.#lineMs(nowMs) + this.#othersMs, mostMs));
  }

  /**
   * After which time a piece that a reader waits for is late, in ms; with several pieces in flight not before our line could
   * have brought all of them.
   */
  #readerLateMs(nowMs: number): number {
    const { limits } = this.#deps;
    if (this.#onItsWay <= 1) return limits.readerLateMs;
    return Math.max(limits.readerLateMs, 2 * this.#lineMs(nowMs));
  }

  /** How long a piece still takes if it comes on as until now, ms. */
  #leftMs(index: number, ids: readonly LinkId[], nowMs: number): number {
    let leastMs = Number.POSITIVE_INFINITY;
    for (const id of ids) {
      const fetch = this.#deps.links.get(id)?.fetches.get(index);
      if (fetch === undefined || fetch.bytes === 0) continue;
      leastMs = Math.min(leastMs, ((PIECE_BYTES - fetch.bytes) * (nowMs - fetch.startedMs)) / fetch.bytes);
    }
    return leastMs;
  }

  #ageOf(index: number, ids: readonly LinkId[], urgent: boolean, nowMs: number) {
    const stallMs = this.#stallMs(nowMs, urgent);
    let stuck = true;
    let youngestMs = Number.POSITIVE_INFINITY;
    for (const id of ids) {
      const link = this.#deps.links.get(id);
      const fetch = link?.fetches.get(index);
      if (link === undefined || fetch === undefined) continue;
      // A peer sends pieces one after the other: a queued one waits while the link moves, but a reader does not.
      const movedMs = urgent ? fetch.lastByteMs : Math.max(fetch.lastByteMs, link.lastByteMs);
      if (nowMs - movedMs < stallMs) stuck = false;
      youngestMs = Math.min(youngestMs, nowMs - fetch.startedMs);
    }
    return { stuck, youngestMs };
  }

  /** Strangers alone are asked for it: whoever is sooner is asked too, so that nobody is slower for them. */
  #isWithStrangers(ids: readonly LinkId[]): boolean {
    return ids.every((id) => this.#deps.links.get(id)?.isStranger === true);
  }

  #stalledAmong(ids: readonly LinkId[]): number {
    return ids.filter((id) => this.#deps.links.get(id)?.stalled === true).length;
  }

  #fetch(link: Link, index: number, nowMs: number, emit: Emit): void {
    if (this.#onItsWay === 0) this.#deps.line.rate.restart(nowMs);
    link.begin(index, nowMs);
    this.#deps.pieces.begin(link.id, index);
    emit({ type: 'fetch', link: link.id, index });
  }
}

/** What a line of that rate needs for a piece, ms. */
function pieceMs(bytesPerSec: number): number {
  return bytesPerSec === 0 ? 0 : (PIECE_BYTES * 1000) / bytesPerSec;
}
