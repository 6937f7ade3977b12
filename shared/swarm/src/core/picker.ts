import { Bitfield } from '@sepia/base/bitfield';
import type { CoreLimits } from './limits.ts';
import type { Link } from './link.ts';
import type { Chance } from './random.ts';

/** Of the choices among many peers, so many look at a reader's window first. Few peers always do: they seldom hold the same. */
const NEAR_FIRST = 0.75;

/** What a choice of a piece looks at. */
export interface PickView {
  readonly limits: CoreLimits;
  readonly chance: Chance;
  /** Pieces that are missing, known by hash, and not in flight: in any order. */
  readonly wanted: readonly number[];
  isWanted(index: number): boolean;
  /** How many wires have it. */
  rarity(index: number): number;
  /** Nobody shares with us. */
  readonly isAlone: boolean;
  /** A reader takes pieces as they come: who is alone need not run far ahead of it. */
  readonly isReading: boolean;
  /** Members on wires that are no origins. */
  readonly peers: number;
  /** Where open readers stand. */
  readonly readers: readonly number[];
  /** Whether policy lets this link be asked for it now. */
  mayAsk(link: Link, index: number, urgent: boolean): boolean;
  /** True only if `mayAsk` says no to all that is wanted and was not suggested: found without asking piece by piece. */
  mayAskNothing(link: Link): boolean;
}

/**
 * The next piece to ask of `link`, or −1. What the source suggested first; then the rarest of a reader's window, where
 * there are many peers now and then not; then the rarest of all, ties by lot: so that readers get on, yet not all peers want the same.
 * Who is alone takes pieces as they are read, and stays near a reader that moves.
 */
export function pickPiece(view: PickView, link: Link): number {
  if (view.isAlone) {
    const next = nextRead(view, link);
    if (next >= 0 || view.isReading) return next;
  }
  const suggested = link.isSuggesting ? nextSuggested(view, link) : -1;
  if (suggested >= 0) return suggested;
  const isBarren = view.mayAskNothing(link);
  const isNearFirst = view.peers <= view.limits.fewPeers || view.chance.next() < NEAR_FIRST;
  if (view.readers.length > 0 && isNearFirst && !isBarren) {
    const window: number[] = [];
    for (const at of view.readers) {
      for (let index = at; index < at + view.limits.readerWindow; index++)
        if (view.isWanted(index)) window.push(index);
    }
    const near = rarest(view, link, window, 0, window.length);
    if (near >= 0) return near;
  }
  const all = view.wanted;
  const isSampled = all.length > view.limits.sample;
  // Chance is drawn all the same: what comes after does not depend on how this was found.
  const start = isSampled ? view.chance.below(all.length) : 0;
  if (isBarren) return -1;
  if (!isSampled) return rarest(view, link, all, 0, all.length);
  const sampled = rarest(view, link, all, start, view.limits.sample);
  return sampled >= 0
    ? sampled
    : rarest(view, link, all, start + view.limits.sample, all.length - view.limits.sample);
}

/** The first piece that it suggested and may be asked for; what is no longer wanted is forgotten. */
function nextSuggested(view: PickView, link: Link): number {
  for (const index of link.suggested) {
    if (view.isWanted(index) && view.mayAsk(link, index, false)) return index;
    if (!view.isWanted(index)) link.suggested.delete(index);
  }
  return -1;
}

/** The first piece of a reader's window that this link may be asked for. */
function nextRead(view: PickView, link: Link): number {
  const { loneWindow, readerWindow } = view.limits;
  const window = view.isReading ? loneWindow : readerWindow;
  for (const at of view.readers)
    for (let index = at; index < at + window; index++)
      if (view.isWanted(index) && view.mayAsk(link, index, false)) return index;
  return -1;
}

function rarest(view: PickView, link: Link, from: readonly number[], start: number, count: number): number {
  let best = -1;
  let bestRarity = Number.POSITIVE_INFINITY;
  let ties = 0;
  const { length } = from;
  let at = start % Math.max(1, length);
  for (let i = 0; i < count; i++) {
    const index = from[at]!;
    at = at + 1 === length ? 0 : at + 1;
    if (link.kind === 'wire' && !link.has.has(index)) continue;
    const rarity = view.rarity(index);
    if (rarity > bestRarity || !view.mayAsk(link, index, false)) continue;
    if (rarity < bestRarity) {
      best = index;
      bestRarity = rarity;
      ties = 1;
      continue;
    }
    ties += 1;
    if (view.chance.below(ties) === 0) best = index;
  }
  return best;
}

/** A set of piece indexes with O(1) add, delete and sampling. */
export class IndexSet {
  readonly list: number[] = [];
  /** The same set as {@link IndexSet.list}, as a bitfield. */
  readonly bits: Bitfield;
  readonly #at: Int32Array;

  constructor(size: number) {
    this.bits = new Bitfield(size);
    this.#at = new Int32Array(size);
  }

  has(index: number): boolean {
    return this.bits.has(index);
  }

  add(index: number): void {
    if (!this.bits.add(index)) return;
    this.#at[index] = this.list.length;
    this.list.push(index);
  }

  delete(index: number): void {
    if (!this.bits.delete(index)) return;
    const at = this.#at[index]!;
    const last = this.list.pop()!;
    if (last === index) return;
    this.list[at] = last;
    this.#at[last] = at;
  }
}
