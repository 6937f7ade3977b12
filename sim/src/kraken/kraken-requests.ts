import type { Chance } from '@sepia/swarm/core/random';
import { KRAKEN_LIMITS } from './kraken-limits.ts';

/** Kraken's two orders of pieces: by lot (the code's default), and the rarest first, ties by index (its agents' base.yaml). */
export type KrakenPolicy = 'default' | 'rarest_first';

/** What the choice of pieces looks at. */
export interface RequestView {
  readonly pieces: number;
  readonly missing: number;
  /** Here already. */
  has(index: number): boolean;
  /** The peer has it. */
  isThere(index: number): boolean;
  /** Asked of anybody; asked of this peer. */
  isAsked(index: number): boolean;
  isAskedHere(index: number): boolean;
  /** Peers that have it, as Kraken counts them. */
  rarity(index: number): number;
}

/** Up to `count` pieces that the peer has; near the end also what others were asked for. */
export function choosePieces(
  view: RequestView,
  count: number,
  policy: KrakenPolicy,
  chance: Chance,
): number[] {
  const isEndgame = view.missing <= KRAKEN_LIMITS.endgamePieces;
  const found: number[] = [];
  let seen = 0;
  for (let index = 0; index < view.pieces; index++) {
    if (view.has(index) || !view.isThere(index)) continue;
    if (isEndgame ? view.isAskedHere(index) : view.isAsked(index)) continue;
    seen += 1;
    if (policy === 'rarest_first') insert(view, found, index, count);
    else if (found.length < count) found.push(index);
    else {
      const at = chance.below(seen);
      if (at < count) found[at] = index;
    }
  }
  return found;
}

/** Keeps the `count` rarest so far, equal ones in order of their index. */
function insert(view: RequestView, found: number[], index: number, count: number): void {
  let at = found.length;
  while (at > 0 && view.rarity(found[at - 1]!) > view.rarity(index)) at -= 1;
  if (at >= count) return;
  found.splice(at, 0, index);
  if (found.length > count) found.pop();
}
