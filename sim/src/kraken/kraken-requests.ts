import type { Chance } from '@sepia/swarm/core/random';
import { KRAKEN_LIMITS } from './kraken-limits.ts';

/** Kraken's two orders of pieces: by lot (the code's default), and the rarest first, ties by index (its agents' base.yaml). */
export type KrakenPolicy = 'default' | 'rarest_first';

/** What the choice of pieces looks at. */
export interface RequestView {
  readonly missing: number;
  /** By piece, more than 0: it is here already, the peer has it, it is asked of anybody. */
  readonly have: Uint8Array;
  readonly there: Uint8Array;
  readonly asked: Uint8Array;
  /** It is asked of this peer. */
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
  const { have, there, asked } = view;
  const isEndgame = view.missing <= KRAKEN_LIMITS.endgamePieces;
  const found: number[] = [];
  let seen = 0;
  for (let index = 0; index < have.length; index++) {
    if (have[index] !== 0 || there[index] === 0) continue;
    if (isEndgame ? view.isAskedHere(index) : asked[index] !== 0) continue;
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
