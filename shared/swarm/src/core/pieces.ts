import { Bitfield } from '@sepia/base/bitfield';
import type { LinkId } from './events.ts';
import type { CoreLimits } from './limits.ts';
import type { Link } from './link.ts';
import type { LinkTable } from './link-table.ts';
import { IndexSet } from './picker.ts';
import type { Readers } from './readers.ts';
import type { SuperSeed } from './super-seed.ts';

/** 32 seats each: what a member's wires need but for strangers. */
const WORDS = 2;

/** Where every piece of the blob stands: here, being written, asked of somebody, wanted, or its hash not known yet. */
export class PieceTable {
  readonly have: Bitfield;
  /** Missing, hash known, asked of nobody. */
  readonly wanted: IndexSet;
  /** Piece → links that fetch it. */
  readonly inFlight = new Map<number, LinkId[]>();
  readonly writing = new Set<number>();
  /** Wires (not origins' / origins') that have each piece. */
  readonly peerHolders: Uint16Array;
  readonly originHolders: Uint16Array;
  /** Pieces with a holder that is no origin. */
  readonly held: Bitfield;
  /** By piece one bit for each seat of a wire: who has it is looked at for all wires, and they are far apart in memory. */
  #seats: Uint32Array;
  #words = WORDS;
  readonly #pieceCount: number;
  readonly #knows: (index: number) => boolean;
  readonly #covered: (index: number) => boolean;
  #known = 0;
  #grown = 0;

  /** `have` is copied. `covered`: whether somebody here wants that piece at all. */
  constructor(init: {
    pieceCount: number;
    have: Bitfield;
    knows: (index: number) => boolean;
    covered: (index: number) => boolean;
  }) {
    this.have = init.have.clone();
    this.#pieceCount = init.pieceCount;
    this.#knows = init.knows;
    this.#covered = init.covered;
    this.wanted = new IndexSet(init.pieceCount);
    this.peerHolders = new Uint16Array(init.pieceCount);
    this.originHolders = new Uint16Array(init.pieceCount);
    this.held = new Bitfield(init.pieceCount);
    this.#seats = new Uint32Array(init.pieceCount * WORDS);
    this.learnHashes();
  }

  /** Goes up whenever a piece is wanted that was not: who had nothing to give may have it now. */
  get grown(): number {
    return this.#grown;
  }

  learnHashes(): void {
    for (let index = this.#known; index < this.#pieceCount; index++) {
      if (!this.#knows(index)) continue;
      this.want(index);
      if (index === this.#known) this.#known += 1;
    }
  }

  want(index: number): void {
    if (this.have.has(index) || this.writing.has(index) || this.inFlight.has(index)) return;
    if (!this.#knows(index) || !this.#covered(index)) return;
    this.wanted.add(index);
    this.#grown += 1;
  }

  /** What is covered has changed: `from` … `to` (inclusive) may be wanted now, others no more. What is asked for still comes. */
  coverageChanged(from: number, to: number): void {
    for (const index of [...this.wanted.list]) if (!this.#covered(index)) this.wanted.delete(index);
    for (let index = from; index <= to && index < this.#pieceCount; index++) this.want(index);
  }

  /** Notes that `link` was asked for the piece. */
  begin(link: LinkId, index: number): void {
    const others = this.inFlight.get(index);
    if (others === undefined) this.inFlight.set(index, [link]);
    else others.push(link);
    this.wanted.delete(index);
  }

  /** `link` will not deliver the piece (any more): it is wanted again unless another link fetches it, too. */
  release(link: LinkId, index: number): void {
    const rest = this.inFlight.get(index)?.filter((one) => one !== link) ?? [];
    if (rest.length > 0) {
      this.inFlight.set(index, rest);
      return;
    }
    this.inFlight.delete(index);
    this.want(index);
  }

  /** The piece is here, or on its way to the disk. Returns the links that it is still requested from: they need not send it. */
  settle(index: number): readonly LinkId[] {
    const asked = this.inFlight.get(index) ?? [];
    this.inFlight.delete(index);
    this.wanted.delete(index);
    return asked;
  }

  /** How many wires have the piece. */
  rarity(index: number): number {
    return this.peerHolders[index]! + this.originHolders[index]!;
  }

  /** Whether the wire with that seat has a piece: as `has` of the link. */
  isWith(seat: number, index: number): boolean {
    const word = seat >> 5;
    return word < this.#words && (this.#seats[index * this.#words + word]! & (1 << (seat & 31))) !== 0;
  }

  /** A peer announced a piece. What strangers have does not count as availability: members do not rely on it. */
  gained(link: Link, index: number): void {
    const word = link.seat >> 5;
    while (word >= this.#words) this.#widen();
    this.#seats[index * this.#words + word]! |= 1 << (link.seat & 31);
    if (link.isStranger) return;
    if (link.origin) this.originHolders[index]! += 1;
    else if (this.peerHolders[index]!++ === 0) this.held.add(index);
  }

  /** A wire closed: the pieces of its peer no longer count. */
  lost(link: Link): void {
    const { held } = this;
    const holders = link.origin ? this.originHolders : this.peerHolders;
    link.has.forEach((index) => {
      this.#seats[index * this.#words + (link.seat >> 5)]! &= ~(1 << (link.seat & 31));
      if (link.isStranger) return;
      holders[index]! -= 1;
      if (holders[index] === 0 && !link.origin) held.delete(index);
    });
  }

  #widen(): void {
    const [before, words] = [this.#seats, this.#words];
    this.#words += 1;
    this.#seats = new Uint32Array(this.#pieceCount * this.#words);
    for (let index = 0; index < this.#pieceCount; index++)
      this.#seats.set(before.subarray(index * words, (index + 1) * words), index * this.#words);
  }
}

/** What an announcement brought: no wanted piece, a wanted one, or one that a reader waits for. */
type Heard = 'nothing' | 'news' | 'next';

/** The parts of the core that announcements read and change. */
interface HearingDeps {
  readonly limits: CoreLimits;
  readonly links: LinkTable;
  readonly pieces: PieceTable;
  readonly readers: Readers;
  readonly superSeed: SuperSeed | undefined;
}

/**
 * Announcements of peers (`bitfield`, `have`), by far the most frequent event. Most come while nothing can be done about
 * them: those are queued, and applied in order before anything looks at what peers have.
 */
export class Hearing {
  readonly #deps: HearingDeps;
  /** While true an announcement may be queued: none could lead to a dial or a request. */
  mayWait = false;
  /** The queue: for each announcement −1 − its link, then the indexes of its pieces. What lies behind `#size` was applied. */
  readonly #words: number[] = [];
  #size = 0;

  constructor(deps: HearingDeps) {
    this.#deps = deps;
  }

  /** Queues an announcement of `link`. */
  later(link: LinkId, indexes: readonly number[]): void {
    const words = this.#words;
    words[this.#size++] = -1 - link;
    for (let at = 0; at < indexes.length; at++) words[this.#size++] = indexes[at]!;
  }

  /** Applies the queue. */
  settle(): void {
    this.mayWait = false;
    const size = this.#size;
    if (size === 0) return;
    const words = this.#words;
    this.#size = 0;
    for (let from = 0; from < size; ) {
      const link = this.#deps.links.get(-1 - words[from]!);
      let end = from + 1;
      while (end < size && words[end]! >= 0) end += 1;
      if (link !== undefined) this.#hear(link, words, from + 1, end, undefined);
      from = end;
    }
  }

  /** `link` says that it has these. */
  hear(link: Link, indexes: Iterable<number>, nowMs: number): Heard {
    const said = Array.isArray(indexes) ? (indexes as readonly number[]) : [...indexes];
    const { superSeed } = this.#deps;
    const isTold = superSeed !== undefined && !link.isStranger;
    return this.#hear(
      link,
      said,
      0,
      said.length,
      isTold ? (index) => superSeed.settle(link, index, nowMs) : undefined,
    );
  }

  /** Hears a part of `said`; `told`: who else is to hear what is new. */
  #hear(
    link: Link,
    said: readonly number[],
    from: number,
    end: number,
    told: ((index: number) => void) | undefined,
  ): Heard {
    const { pieces, readers, limits, links } = this.#deps;
    let heard: Heard = 'nothing';
    for (let at = from; at < end; at++) {
      const index = said[at]!;
      if (!link.has.add(index)) continue;
      if (pieces.wanted.has(index) && heard !== 'next')
        heard = readers.isNext(index, limits.readerHead) ? 'next' : 'news';
      pieces.gained(link, index);
      told?.(index);
    }
    if (heard !== 'nothing') links.noteNews(link);
    return heard;
  }
}
