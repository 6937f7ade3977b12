import type { Bitfield } from '@sepia/base/bitfield';

/** The piece that one reader waits for, and since when, in ms. */
export interface ReaderState {
  index: number;
  /** It reads no further than this piece. */
  readonly last: number;
  /** Since when it stands there and the piece's hash is known; undefined before. */
  sinceMs: number | undefined;
  /** When it came to stand there. */
  readonly movedMs: number;
  /** It was just opened and waits for its first piece. */
  readonly fresh: boolean;
}

/** The open readers of a swarm and how long each has been waiting for its piece. */
export class Readers {
  readonly #knows: (index: number) => boolean;
  readonly #all = new Map<number, ReaderState>();

  constructor(knows: (index: number) => boolean) {
    this.#knows = knows;
  }

  get size(): number {
    return this.#all.size;
  }

  /** Opens or moves it; `last` counts when it opens. */
  set(reader: number, index: number, last: number, nowMs: number): void {
    const before = this.#all.get(reader);
    if (before?.index === index) return;
    const sinceMs = this.#knows(index) ? nowMs : undefined;
    const fresh = before === undefined;
    this.#all.set(reader, { index, last: before?.last ?? last, sinceMs, movedMs: nowMs, fresh });
  }

  /** Whether a reader stands at `index` or will come to it. */
  covers(index: number): boolean {
    for (const reader of this.#all.values()) if (index >= reader.index && index <= reader.last) return true;
    return false;
  }

  delete(reader: number): void {
    this.#all.delete(reader);
  }

  /** More hashes are known: the wait for the swarm begins now, not when the upstream was waited for. */
  learnHashes(nowMs: number): void {
    for (const reader of this.#all.values())
      if (reader.sinceMs === undefined && this.#knows(reader.index)) reader.sinceMs = nowMs;
  }

  values(): IterableIterator<ReaderState> {
    return this.#all.values();
  }

  /** Whether some reader moved since `ms` ago: it takes what comes, and waits for nothing. */
  areMoving(ms: number, nowMs: number): boolean {
    for (const reader of this.#all.values()) if (nowMs - reader.movedMs <= ms) return true;
    return false;
  }

  /** How long the most patient reader has waited for `index`, ms; −1 if none stands there. */
  waitedMs(index: number, nowMs: number): number {
    let waited = -1;
    for (const reader of this.#all.values())
      if (reader.index === index && reader.sinceMs !== undefined)
        waited = Math.max(waited, nowMs - reader.sinceMs);
    return waited;
  }

  /** Whether `index` is among the next `count` pieces of a reader. */
  isNext(index: number, count: number): boolean {
    for (const reader of this.#all.values())
      if (index >= reader.index && index < reader.index + count) return true;
    return false;
  }

  /** Whether one of these is among the next `count` pieces of a reader. */
  areNext(count: number, pieces: Bitfield): boolean {
    for (const { index } of this.#all.values())
      for (let at = index; at < index + count; at++) if (pieces.has(at)) return true;
    return false;
  }

  /** Whether a reader that was just opened stands at `index`. */
  fresh(index: number): boolean {
    for (const reader of this.#all.values()) if (reader.index === index && reader.fresh) return true;
    return false;
  }
}
