import { SingleFlight } from '@sepia/base/async/single-flight';
import { giveBack } from '@sepia/base/chunk';
import { throwIfBug } from '@sepia/base/failure';

interface ShelfOptions {
  /** Pieces at once, those on their way included. */
  readonly most: number;
  /** A piece that nobody read for this long goes; who asked for one longer ago than this wants it no more, in ms. */
  readonly idleMs: number;
  readonly nowMs: () => number;
}

interface Entry {
  bytes: Uint8Array | undefined;
  readMs: number;
}

interface Wish {
  readonly by: object;
  readonly atMs: number;
}

/**
 * Pieces of other members that several slow readers share: 500 that read one blob in step are one reader to its members.
 * A piece is fetched once two want it, and stays while it is read; who finds no room reads for itself, so that readers
 * far apart never push each other out, and who reads alone takes no more than it needs.
 */
export class PieceShelf {
  readonly #options: ShelfOptions;
  readonly #entries = new Map<string, Entry>();
  /** Who asked last for a piece that is not here; as many as are kept of pieces. */
  readonly #wishes = new Map<string, Wish>();
  readonly #coming = new SingleFlight<string, Uint8Array>();
  #trim: NodeJS.Timeout | undefined;

  constructor(options: ShelfOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#entries.size;
  }

  /** A piece that is here, to be copied from at once: later its memory may be another's. */
  peek(key: string): Uint8Array | undefined {
    const entry = this.#entries.get(key);
    if (entry?.bytes === undefined) return undefined;
    entry.readMs = this.#options.nowMs();
    return entry.bytes;
  }

  /**
   * Resolves when the piece is here for {@link PieceShelf.peek}, or its reader `by` is to read for itself: it is alone,
   * there is no room, or the fetch failed.
   * @throws the reason of `signal`; a bug
   */
  async want(
    key: string,
    by: object,
    fetch: (signal: AbortSignal) => Promise<Uint8Array>,
    signal: AbortSignal,
  ): Promise<void> {
    const nowMs = this.#options.nowMs();
    const entry = this.#entries.get(key) ?? this.#begin(key, by, nowMs);
    if (entry === undefined || entry.bytes !== undefined) return;
    try {
      entry.bytes = await this.#coming.run(key, fetch, signal);
      entry.readMs = this.#options.nowMs();
      this.#trim ??= setTimeout(() => this.#trimNow(), this.#options.idleMs).unref();
    } catch (error) {
      if (!this.#coming.has(key) && this.#entries.get(key) === entry) this.#entries.delete(key);
      signal.throwIfAborted();
      throwIfBug(error);
    }
  }

  /** What lies there is not right. */
  drop(key: string): void {
    this.#entries.delete(key);
  }

  #begin(key: string, by: object, nowMs: number): Entry | undefined {
    const { most, idleMs } = this.#options;
    const wish = this.#wishes.get(key);
    this.#wishes.delete(key);
    if (wish === undefined || wish.by === by || nowMs - wish.atMs > idleMs) {
      this.#wishes.set(key, { by, atMs: nowMs });
      for (const oldest of this.#wishes.keys()) if (this.#wishes.size > most) this.#wishes.delete(oldest);
      return undefined;
    }
    if (this.#entries.size >= most) this.#dropIdle(nowMs);
    if (this.#entries.size >= most) return undefined;
    const entry = { bytes: undefined, readMs: nowMs };
    this.#entries.set(key, entry);
    return entry;
  }

  #dropIdle(nowMs: number): void {
    for (const [key, { bytes, readMs }] of this.#entries) {
      if (bytes === undefined || nowMs - readMs < this.#options.idleMs) continue;
      this.#entries.delete(key);
      giveBack(bytes);
    }
  }

  #trimNow(): void {
    this.#trim = undefined;
    this.#dropIdle(this.#options.nowMs());
    if (this.#entries.size > 0) this.#trim = setTimeout(() => this.#trimNow(), this.#options.idleMs).unref();
  }
}

/** That of this process: 12 MiB. */
export const pieceShelf = new PieceShelf({ most: 12, idleMs: 1_000, nowMs: () => performance.now() });
