import { Bitfield } from '@sepia/base/bitfield';
import { pieceCount } from '@sepia/metainfo/tree';

/** Connections that one fetch opens beside its main one, for pieces that readers wait for. */
export const MAX_EXTRA_CONNECTIONS = 2;
/** Pieces ahead of a reader that count as urgent. */
const READ_AHEAD_PIECES = 4;
/** A running connection that reaches a piece within this many pieces is waited for. */
const NEAR_PIECES = 8;

/** Pieces `start` … `end` − 1 that one upstream connection is to fetch. `open`: to the end of the blob. */
export interface FetchJob {
  readonly start: number;
  readonly end: number;
  readonly urgent: boolean;
}

interface Connection {
  /** The piece that arrives next. */
  next: number;
  end: number;
  /** The upstream has begun to answer. */
  isAnswered: boolean;
}

interface Reader {
  piece: number;
  readonly last: number;
}

/**
 * Decides which pieces of one blob are asked from the upstream next, and when a connection has done its part.
 * Pure: connections, readers and pieces are told to it; it never waits.
 *
 * With `wantAll` one connection runs from the first missing piece to the end; pieces that readers wait for far
 * ahead of it get connections of their own as long as the upstream honours Range. Without `wantAll` only
 * what readers cover is fetched.
 */
export class FetchPlan {
  readonly pieceCount: number;
  readonly have: Bitfield;
  readonly #connections = new Map<number, Connection>();
  readonly #readers = new Map<number, Reader>();
  #avoid: Bitfield | undefined;
  #arePeersReached = false;
  #wantAll: boolean;
  #ranges: 'unknown' | 'yes' | 'no' = 'unknown';

  constructor(sizeBytes: number, options: { readonly wantAll: boolean; readonly have?: Bitfield }) {
    this.pieceCount = pieceCount(sizeBytes);
    this.have = options.have ?? new Bitfield(this.pieceCount);
    this.#wantAll = options.wantAll;
  }

  get wantAll(): boolean {
    return this.#wantAll;
  }

  get ranges(): 'unknown' | 'yes' | 'no' {
    return this.#ranges;
  }

  get connections(): number {
    return this.#connections.size;
  }

  get complete(): boolean {
    return this.have.complete;
  }

  /** Connections are open, and none has been answered. */
  get thinking(): boolean {
    return this.#connections.size > 0 && [...this.#connections.values()].every((one) => !one.isAnswered);
  }

  /** True while some piece is still wanted by somebody. */
  get hungry(): boolean {
    if (this.complete) return false;
    return this.#wantAll || [...this.#readers.values()].some((reader) => this.#urgentOf(reader) !== -1);
  }

  setWantAll(): void {
    this.#wantAll = true;
  }

  /** What the upstream's answers showed; `no` is never taken back within a fetch. */
  setRanges(works: boolean): void {
    if (this.#ranges !== 'no') this.#ranges = works ? 'yes' : 'no';
  }

  /** Pieces that peers hold: left to the swarm until {@link stopAvoiding}. */
  avoid(pieces: Bitfield): void {
    this.#avoid = pieces;
    this.#arePeersReached = false;
  }

  /**
   * What the peers hold that are reached, told again and again while pieces are left to the swarm: what none of them has is
   * not left to it any longer. The first word counts for nothing: others are still being dialled.
   */
  peersHold(pieces: Bitfield): void {
    if (this.#avoid === undefined) return;
    if (this.#arePeersReached) this.#avoid = pieces;
    this.#arePeersReached = true;
  }

  stopAvoiding(): void {
    this.#avoid = undefined;
  }

  get avoiding(): boolean {
    return this.#avoid !== undefined;
  }

  /** Returns true if the piece was missing. */
  landed(piece: number): boolean {
    return this.have.add(piece);
  }

  /** Drops all pieces: the attempt was wrong. */
  reset(): void {
    for (const piece of [...this.have]) this.have.delete(piece);
    this.#avoid = undefined;
  }

  /** A reader at `piece` that reads no further than `last`. */
  moveReader(id: number, piece: number, last = this.pieceCount - 1): void {
    const reader = this.#readers.get(id);
    if (reader === undefined) this.#readers.set(id, { piece, last: Math.min(last, this.pieceCount - 1) });
    else reader.piece = piece;
  }

  closeReader(id: number): void {
    this.#readers.delete(id);
  }

  /** Pieces that a connection is about to deliver, told before it starts. */
  opened(connection: number, job: Pick<FetchJob, 'start' | 'end'>): void {
    this.#connections.set(connection, { next: job.start, end: job.end, isAnswered: false });
  }

  /** The upstream has begun to answer it. */
  answered(connection: number): void {
    const one = this.#connections.get(connection);
    if (one !== undefined) one.isAnswered = true;
  }

  /** The connection delivered `piece`; true if it shall go on with the one after it. */
  delivered(connection: number, piece: number): boolean {
    const one = this.#connections.get(connection);
    if (one === undefined) return false;
    one.next = piece + 1;
    if (one.next >= one.end) return false;
    if (this.#ranges === 'no' || this.#ranges === 'unknown') return true;
    if (this.have.has(one.next) || this.#isComing(one.next, connection)) return false;
    return (
      this.#wantAll ||
      [...this.#readers.values()].some((reader) => one.next >= reader.piece && one.next <= reader.last)
    );
  }

  closed(connection: number): void {
    this.#connections.delete(connection);
  }

  /** Before the first answer the size is only believed: one connection asks, for `piece` where no reader is yet. */
  first(piece = 0): FetchJob | undefined {
    if (this.#connections.size > 0) return undefined;
    const start = Math.min(piece, this.pieceCount - 1);
    return this.next() ?? { start, end: start + 1, urgent: true };
  }

  /** What a further connection should fetch, or undefined if none is called for now. */
  next(): FetchJob | undefined {
    if (this.complete) return undefined;
    if (this.#connections.size === 0) return this.#main() ?? this.#urgent();
    if (this.#ranges === 'no') return undefined;
    if (this.#connections.size > MAX_EXTRA_CONNECTIONS) return undefined;
    const urgent = this.#urgent();
    if (urgent !== undefined) return urgent;
    // A connection that serves readers alone must not keep the rest waiting.
    return this.#hasMain() ? undefined : this.#main();
  }

  #main(): FetchJob | undefined {
    const start = this.#wantAll ? this.#nextWanted(0) : -1;
    if (start === -1) return undefined;
    return {
      start,
      end: this.#ranges === 'no' ? this.pieceCount : this.#gapEnd(start, this.pieceCount),
      urgent: false,
    };
  }

  #hasMain(): boolean {
    const first = this.#nextWanted(0);
    return first === -1 || this.#isComing(first);
  }

  #urgent(): FetchJob | undefined {
    for (const reader of this.#readers.values()) {
      const start = this.#urgentOf(reader);
      if (start === -1) continue;
      const limit = Math.min(reader.last + 1, Math.max(start + 1, reader.piece + READ_AHEAD_PIECES));
      return { start, end: this.#gapEnd(start, limit), urgent: true };
    }
    return undefined;
  }

  /** First piece that this reader needs soon and that nobody brings soon, or −1. */
  #urgentOf(reader: Reader): number {
    const limit = Math.min(reader.last, reader.piece + READ_AHEAD_PIECES - 1);
    for (let piece = reader.piece; piece <= limit; piece++) {
      if (this.have.has(piece) || this.#isNear(piece)) continue;
      if (this.#avoid?.has(piece) === true) continue;
      return piece;
    }
    return -1;
  }

  #isNear(piece: number): boolean {
    for (const one of this.#connections.values()) {
      if (piece >= one.next && piece < one.end && piece - one.next <= NEAR_PIECES) return true;
    }
    return false;
  }

  #isComing(piece: number, except?: number): boolean {
    for (const [id, one] of this.#connections) {
      if (id !== except && piece >= one.next && piece < one.end) {
        // Only the stretch that it reaches first counts: a long main job may be overtaken by an urgent one.
        if (except === undefined || piece - one.next <= NEAR_PIECES) return true;
      }
    }
    return false;
  }

  #nextWanted(from: number): number {
    for (let piece = this.have.nextMissing(from); piece !== -1; piece = this.have.nextMissing(piece + 1)) {
      if (this.#avoid?.has(piece) !== true) return piece;
    }
    return -1;
  }

  #gapEnd(start: number, limit: number): number {
    let end = start + 1;
    while (end < limit && !this.have.has(end) && this.#avoid?.has(end) !== true) end += 1;
    return end;
  }
}
