import type { PieceTable } from './pieces.ts';
import type { Readers } from './readers.ts';

/** What a member wants of a swarm: nothing (it seeds), all pieces, or those that readers cover. */
export class Wish {
  leech: boolean;
  /** Every piece is here. */
  finished: boolean;
  #all: boolean;
  readonly #readers: Readers;

  constructor(
    init: { readonly leech: boolean; readonly wantAll: boolean; readonly finished: boolean },
    readers: Readers,
  ) {
    this.leech = init.leech;
    this.finished = init.finished;
    this.#all = init.wantAll;
    this.#readers = readers;
  }

  readonly covers = (index: number): boolean => this.#all || this.#readers.covers(index);

  /** True while something is to be fetched, or a reader may need it any moment. */
  isWanting(pieces: PieceTable): boolean {
    if (!this.leech || this.finished) return false;
    return this.#all || this.#readers.size > 0 || pieces.inFlight.size > 0;
  }

  wantAll(pieces: PieceTable, pieceCount: number): void {
    this.#all = true;
    pieces.coverageChanged(0, pieceCount - 1);
  }

  /** A reader was opened, moved (it covers `from` … `to` now) or closed (nothing new). */
  readersChanged(pieces: PieceTable, from = 0, to = -1): void {
    if (!this.#all) pieces.coverageChanged(from, to);
  }
}
