import type { Dialling } from './dialling.ts';
import type { LinkId } from './events.ts';
import type { CoreLimits } from './limits.ts';
import type { Link } from './link.ts';
import type { PieceTable } from './pieces.ts';

/** What the rules look at; it stays the core's. */
export interface AskingState {
  readonly limits: CoreLimits;
  readonly zone: string;
  readonly origin: boolean;
  readonly links: ReadonlyMap<LinkId, Link>;
  readonly pieces: PieceTable;
  readonly readers: ReadonlyMap<number, { readonly index: number; readonly sinceMs: number }>;
  readonly dialling: Dialling;
  /** When a wire brought the last byte. */
  readonly wireByteMs: () => number;
}

/** Rules of whom to ask for what: peers before origins before HTTP, the own zone first, a waiting reader above all. */
export class Asking {
  readonly #state: AskingState;

  constructor(state: AskingState) {
    this.#state = state;
  }

  soonest(index: number, nowMs: number, urgent: boolean): Link | undefined {
    let best: Link | undefined;
    let bestCost = Number.POSITIVE_INFINITY;
    for (const link of this.#state.links.values()) {
      if (!this.mayAsk(link, index, urgent, nowMs)) continue;
      if (link.kind === 'http' && link.room(this.#state.limits) <= 0) continue;
      const far = link.zone === this.#state.zone ? 1 : 2;
      const last = link.kind === 'http' ? 1e6 : link.origin ? 1e3 : 0;
      const cost = link.costMs() * far + last;
      if (cost < bestCost) {
        best = link;
        bestCost = cost;
      }
    }
    return best;
  }

  mayAsk(link: Link, index: number, urgent: boolean, nowMs: number): boolean {
    if (!link.canServe(index, nowMs)) return false;
    if (link.kind === 'http') return this.#mayAskHttp(index, urgent, nowMs);
    if (!link.origin || link.suggested.has(index) || this.#state.origin) return true;
    const peers = this.#peersWith(index, nowMs);
    if (urgent)
      return peers === 0 || this.#state.pieces.inFlight.has(index) || this.readerWaits(index, nowMs);
    // An idle member may take from an origin what its peers do not have; the origin's budget has the last word.
    return peers === 0
      ? link.fetches.size === 0 || !this.#hasPeers()
      : this.#state.pieces.inFlight.size === 0;
  }

  /** HTTP serves what no wire can, and a reader that waits. */
  #mayAskHttp(index: number, urgent: boolean, nowMs: number): boolean {
    if (urgent && (this.#state.pieces.inFlight.has(index) || this.readerWaits(index, nowMs))) return true;
    for (const link of this.#state.links.values())
      if (link.kind === 'wire' && !link.stalled && link.has.has(index)) return false;
    if (this.#noWires()) return urgent || this.#state.dialling.pending === 0;
    return nowMs - this.#state.wireByteMs() >= this.#state.limits.stallMs;
  }

  readerWaits(index: number, nowMs: number): boolean {
    for (const reader of this.#state.readers.values())
      if (reader.index === index && nowMs - reader.sinceMs >= this.#state.limits.stallMs) return true;
    return false;
  }

  #peersWith(index: number, nowMs: number): number {
    if (this.#state.pieces.peerHolders[index] === 0) return 0;
    let count = 0;
    for (const link of this.#state.links.values())
      if (link.kind === 'wire' && !link.origin && link.canServe(index, nowMs)) count += 1;
    return count;
  }

  #hasPeers(): boolean {
    for (const link of this.#state.links.values()) if (link.kind === 'wire' && !link.origin) return true;
    return false;
  }

  #noWires(): boolean {
    for (const link of this.#state.links.values()) if (link.kind === 'wire' && !link.stalled) return false;
    return true;
  }
}
