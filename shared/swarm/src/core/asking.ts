import type { Dialling } from './dialling.ts';
import type { CoreLimits } from './limits.ts';
import type { Link } from './link.ts';
import type { LinkTable } from './link-table.ts';
import type { PieceTable } from './pieces.ts';
import type { Readers } from './readers.ts';
import type { ZoneMeter } from './zone-meter.ts';

/** What the rules look at; it stays the core's. */
export interface AskingState {
  readonly limits: CoreLimits;
  readonly zone: string;
  readonly origin: boolean;
  readonly links: LinkTable;
  readonly pieces: PieceTable;
  readonly readers: Readers;
  readonly dialling: Dialling;
  readonly zones: ZoneMeter;
  /** When a wire brought the last byte. */
  readonly wireByteMs: () => number;
}

/** Rules of whom to ask for what: peers before origins before HTTP, the own zone first, a waiting reader above all. */
export class Asking {
  readonly #state: AskingState;

  constructor(state: AskingState) {
    this.#state = state;
  }

  /** No other member takes part, as far as is known: whatever is fetched, nobody wants it of us. */
  isAlone(): boolean {
    return !this.#hasPeers() && !this.#state.dialling.knowsPeers;
  }

  /** Members on wires that are no origins. */
  peerCount(): number {
    return this.#state.links.peers;
  }

  /** False if no piece may be asked of an HTTP source now; true says nothing. */
  mayAskHttp(nowMs: number): boolean {
    const { wireByteMs, limits } = this.#state;
    return this.#noWires() || nowMs - wireByteMs() >= limits.stallMs;
  }

  /**
   * True only if {@link mayAsk} refuses each wanted piece that it did not suggest, found for all pieces at once: a choice looks at
   * hundreds of pieces, and most often at origins first.
   */
  mayAskNothing(link: Link, areSure: () => boolean): boolean {
    if (link.kind === 'http') return false;
    const { pieces } = this.#state;
    if (link.stalled || link.choked || !link.has.meets(pieces.wanted.bits)) return true;
    if (!link.origin || this.#state.origin || pieces.inFlight.size === 0 || !this.#hasPeers()) return false;
    if (this.#originBusy()) return true;
    return !link.has.meets(pieces.wanted.bits, pieces.held) && areSure();
  }

  /** Whether each peer that is no origin serves whatever it has. */
  arePeersSure(nowMs: number): boolean {
    return this.#state.links.facts.arePeersSure(nowMs);
  }

  /** It was asked for nothing though it has room: so it stays until it has more or more is wanted, unless time or policy refused. */
  noteEmpty(link: Link, nowMs: number): void {
    if (link.kind !== 'wire' || link.origin || link.stalled || link.choked || link.refuses(nowMs)) return;
    const { limits, zone, links } = this.#state;
    if (link.zone === zone || limits.farShare >= 1) links.noteEmpty(link);
  }

  soonest(index: number, nowMs: number, urgent: boolean): Link | undefined {
    let best: Link | undefined;
    let bestCost = Number.POSITIVE_INFINITY;
    for (const link of this.#state.links.values()) {
      if (!this.mayAsk(link, index, urgent, nowMs)) continue;
      if (link.kind === 'http' && link.room(this.#state.limits) <= 0) continue;
      const far = link.zone === this.#state.zone ? 1 : 2;
      const last = link.isStranger ? 2e6 : link.kind === 'http' ? 1e6 : link.origin ? 1e3 : 0;
      const cost = link.costMs() * far + last;
      if (cost < bestCost) {
        best = link;
        bestCost = cost;
      }
    }
    return best;
  }

  /** `areSure`: as {@link arePeersSure} answers now; a choice among many pieces asks it once. */
  mayAsk(link: Link, index: number, urgent: boolean, nowMs: number, areSure?: () => boolean): boolean {
    if (!link.canServe(index, nowMs)) return false;
    if (link.kind === 'http') return this.#mayAskHttp(index, urgent, nowMs);
    if (!urgent && link.zone !== this.#state.zone && !this.#mayCross(nowMs)) return false;
    if (!link.origin || this.#state.origin) return true;
    if (link.suggests(index) && !this.#isOut(index, nowMs)) return true;
    if (urgent) return this.#state.pieces.inFlight.has(index) || this.#readerMay(index, nowMs);
    if (this.#state.pieces.inFlight.size === 0) {
      // Nothing moves: whoever has it is asked.
      if (!this.#hasPeers() || !this.#originBusy()) return true;
      return this.#isWithPeers(index, nowMs);
    }
    // A member that no origin gives anything may take what its peers do not have; the origin's budget has the last word.
    return (!this.#hasPeers() || !this.#originBusy()) && !this.#isWithPeers(index, nowMs, areSure);
  }

  /** A reader's first piece comes from an origin at once, later ones if the swarm is late with them. */
  #readerMay(index: number, nowMs: number): boolean {
    const { limits, readers } = this.#state;
    const waitedMs = readers.waitedMs(index, nowMs);
    if (waitedMs >= limits.readerHttpMs) return true;
    const isDue = readers.fresh(index) || waitedMs >= limits.originGraceMs || !this.#hasPeers();
    return isDue && !this.#isWithPeers(index, nowMs);
  }

  /** HTTP serves what no wire can: little while wires are dialled, all if there are none; else a reader's late piece. */
  #mayAskHttp(index: number, urgent: boolean, nowMs: number): boolean {
    const { limits, pieces, dialling } = this.#state;
    if (this.#noWires()) {
      if (dialling.pending === 0) return true;
      return urgent && this.#httpInFlight() < limits.httpWhileDialling;
    }
    const stuck = urgent && (pieces.inFlight.has(index) || this.#waits(index, limits.stallMs, nowMs));
    if (stuck && this.#waits(index, limits.readerHttpMs, nowMs)) return true;
    if (!stuck && nowMs - this.#state.wireByteMs() < limits.stallMs) return false;
    if (pieces.rarity(index) === 0) return true;
    for (const link of this.#state.links.values())
      if (isMember(link) && !link.stalled && link.has.has(index)) return false;
    return true;
  }

  #waits(index: number, ms: number, nowMs: number): boolean {
    return this.#state.readers.waitedMs(index, nowMs) >= ms;
  }

  #httpInFlight(): number {
    let count = 0;
    for (const link of this.#state.links.values()) if (link.kind === 'http') count += link.fetches.size;
    return count;
  }

  /** Whether a peer that is no origin has it and serves now. */
  #isWithPeers(index: number, nowMs: number, areSure?: () => boolean): boolean {
    const { pieces } = this.#state;
    if (pieces.peerHolders[index] === 0) return false;
    // What is wanted is asked of nobody.
    if (areSure?.() === true && pieces.wanted.has(index)) return true;
    for (const link of this.#state.links.values())
      if (isMember(link) && !link.origin && link.canServe(index, nowMs)) return true;
    return false;
  }

  /** Whether what an origin suggests came in by another: several may suggest the same. Of zones apart each needs its own. */
  #isOut(index: number, nowMs: number): boolean {
    if (this.#state.limits.farShare >= 1) return this.#isWithPeers(index, nowMs);
    for (const link of this.#state.links.values())
      if (isMember(link) && !link.origin && link.zone === this.#state.zone && link.canServe(index, nowMs))
        return true;
    return false;
  }

  /** Across zones within the share; beyond it only when nothing else moves: zones are preferred, never exclusive. */
  #mayCross(nowMs: number): boolean {
    const { limits, links, zone, zones } = this.#state;
    if (limits.farShare >= 1) return true;
    let onItsWay = 0;
    let near = false;
    for (const link of links.values()) {
      if (!isMember(link)) continue;
      if (link.zone === zone) near = true;
      else onItsWay += link.fetches.size;
    }
    if (!near || zones.mayCross(onItsWay)) return true;
    return onItsWay === 0 && nowMs - this.#state.wireByteMs() >= limits.stallMs;
  }

  #originBusy(): boolean {
    for (const link of this.#state.links.origins) if (link.load > 0) return true;
    return false;
  }

  #hasPeers(): boolean {
    return this.#state.links.peers > 0;
  }

  #noWires(): boolean {
    for (const link of this.#state.links.values()) if (isMember(link) && !link.stalled) return false;
    return true;
  }
}

/** A wire to a member: what the others wait for, or are spared for. */
function isMember(link: Link): boolean {
  return link.kind === 'wire' && !link.isStranger;
}
