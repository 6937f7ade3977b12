import type { Asking } from './asking.ts';
import type { Emit, LinkId } from './events.ts';
import type { CoreLimits } from './limits.ts';
import type { Link } from './link.ts';
import { type PickView, pickPiece } from './picker.ts';
import type { PieceTable } from './pieces.ts';
import type { Chance } from './random.ts';

/** What the choice of fetches looks at; it stays the core's. */
export interface FetchingDeps {
  readonly limits: CoreLimits;
  readonly chance: Chance;
  readonly pieces: PieceTable;
  readonly links: ReadonlyMap<LinkId, Link>;
  readonly readers: ReadonlyMap<number, { readonly index: number }>;
  readonly asking: Asking;
}

/** Which pieces are asked of which links now: readers' first, then each link as deep as it bears, then the late ones twice. */
export class Fetching {
  readonly #deps: FetchingDeps;
  /** No slab is free: nothing is asked until one is. */
  noBuffers = false;

  constructor(deps: FetchingDeps) {
    this.#deps = deps;
  }

  schedule(nowMs: number, emit: Emit): void {
    const { limits, links, pieces, asking } = this.#deps;
    if (this.noBuffers) return;
    if (pieces.wanted.list.length > 0 || pieces.inFlight.size > 0) this.#readerHeads(nowMs, emit);
    const view: PickView = {
      limits,
      chance: this.#deps.chance,
      wanted: pieces.wanted.list,
      isWanted: (index) => pieces.wanted.has(index),
      rarity: (index) => pieces.rarity(index),
      readers: [...this.#deps.readers.values()].map((reader) => reader.index),
      mayAsk: (link, index, urgent) => asking.mayAsk(link, index, urgent, nowMs),
    };
    for (const link of links.values()) {
      while (
        pieces.wanted.list.length > 0 &&
        pieces.inFlight.size < limits.inFlight &&
        !this.noBuffers &&
        link.room(limits) > 0
      ) {
        const index = pickPiece(view, link);
        if (index < 0) break;
        this.#fetch(link, index, nowMs, emit);
      }
    }
    for (const [index, ids] of pieces.inFlight) this.#hedge(index, ids, nowMs, emit);
  }

  /** The pieces straight in front of a reader go to whoever brings them soonest. */
  #readerHeads(nowMs: number, emit: Emit): void {
    for (const reader of this.#deps.readers.values()) {
      for (let index = reader.index; index < reader.index + this.#deps.limits.readerHead; index++) {
        if (!this.#deps.pieces.wanted.has(index) || this.noBuffers) continue;
        const best = this.#deps.asking.soonest(index, nowMs, true);
        if (best !== undefined) this.#fetch(best, index, nowMs, emit);
      }
    }
  }

  /** A fetch that does not move, or that the endgame can beat, gets a second source. */
  #hedge(index: number, ids: readonly LinkId[], nowMs: number, emit: Emit): void {
    const { limits, asking, pieces } = this.#deps;
    if (ids.length >= limits.fetchers + this.#stalledAmong(ids) || this.noBuffers) return;
    const urgent = asking.readerWaits(index, nowMs);
    const { stuck, youngestMs } = this.#ageOf(index, ids, urgent, nowMs);
    const nearEnd = pieces.wanted.list.length === 0 && pieces.inFlight.size <= limits.endgame;
    if (!stuck && (!nearEnd || youngestMs < limits.endgameMinMs)) return;
    const best = asking.soonest(index, nowMs, stuck);
    if (best === undefined || (best.room(limits) <= 0 && !urgent)) return;
    if (!stuck && youngestMs < best.costMs() * limits.endgameFactor) return;
    this.#fetch(best, index, nowMs, emit);
  }

  #ageOf(index: number, ids: readonly LinkId[], urgent: boolean, nowMs: number) {
    let stuck = true;
    let youngestMs = Number.POSITIVE_INFINITY;
    for (const id of ids) {
      const link = this.#deps.links.get(id);
      const fetch = link?.fetches.get(index);
      if (link === undefined || fetch === undefined) continue;
      // A peer sends pieces one after the other: a queued one waits while the link moves, but a reader does not.
      const movedMs = urgent ? fetch.lastByteMs : Math.max(fetch.lastByteMs, link.lastByteMs);
      if (nowMs - movedMs < this.#deps.limits.stallMs) stuck = false;
      youngestMs = Math.min(youngestMs, nowMs - fetch.startedMs);
    }
    return { stuck, youngestMs };
  }

  #stalledAmong(ids: readonly LinkId[]): number {
    return ids.filter((id) => this.#deps.links.get(id)?.stalled === true).length;
  }

  #fetch(link: Link, index: number, nowMs: number, emit: Emit): void {
    link.begin(index, nowMs);
    this.#deps.pieces.begin(link.id, index);
    emit({ type: 'fetch', link: link.id, index });
  }
}
