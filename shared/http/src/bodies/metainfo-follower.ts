import { CodedError, isCoded } from '@sepia/base/errors';
import { ignoreFailure, throwIfBug } from '@sepia/base/failure';
import { delay } from '@sepia/base/lifecycle';
import { Metainfo } from '@sepia/metainfo/metainfo';
import { ASK_AGAIN_MS } from '../deadlines/bodies.ts';

/** What a member told of open metainfo: hashes from where the asker's gapless prefix ended, and the mark for the next poll. */
export interface MetainfoNews {
  readonly metainfo: Metainfo;
  readonly etag: string;
}

interface FollowerDeps {
  /** More than `known`, or undefined when there is no news within its own wait; `turn` counts failures. */
  readonly poll: (
    known: MetainfoNews,
    turn: number,
    signal: AbortSignal,
  ) => Promise<MetainfoNews | undefined>;
  /** True for an answer that ends it. */
  readonly isDefinite: (error: unknown) => boolean;
  /** The origin dropped this attempt and began another; pieces of it may have been read. */
  readonly onDropped?: (attempt: Metainfo) => void;
}

/** Keeps a copy of open metainfo up to date until it is final. Stop it. */
export class MetainfoFollower {
  readonly metainfo: Metainfo;
  /** Of the last answer. */
  #etag: string;
  readonly #deps: FollowerDeps;
  readonly #stopped = new AbortController();
  readonly #waiting = new Set<() => void>();
  #error: unknown;

  constructor(deps: FollowerDeps, first: Metainfo) {
    this.#deps = deps;
    // What is final never changes: 500 readers hold one copy of it.
    this.metainfo = first.state === 'final' ? first : Metainfo.decode(first.encode());
    this.#etag = first.etag;
    this.#follow().catch((error: unknown) => this.#fail(error));
  }

  /** What ended it: `STALE_ATTEMPT`, a definite answer, a bug. */
  get error(): unknown {
    return this.#error;
  }

  get isFinal(): boolean {
    return this.metainfo.state === 'final';
  }

  /** Idempotent. */
  stop(): void {
    this.#stopped.abort(new CodedError('TIMEOUT', { message: 'reader is gone' }));
  }

  /** Resolves when the hash of a piece is known. @throws what ended it, the signal's reason */
  async untilKnown(piece: number, signal: AbortSignal): Promise<void> {
    while (!this.metainfo.knows(piece)) await this.#news(signal);
  }

  /** As {@link MetainfoFollower.untilKnown}, until all is. */
  async untilFinal(signal: AbortSignal): Promise<void> {
    while (!this.isFinal) await this.#news(signal);
  }

  async #follow(): Promise<void> {
    const { signal } = this.#stopped;
    for (let turn = 0; !this.isFinal && !signal.aborted; ) {
      try {
        const known = { metainfo: this.metainfo, etag: this.#etag };
        const news = await this.#deps.poll(known, turn, signal);
        if (news !== undefined) this.#learn(news);
      } catch (error) {
        if (signal.aborted) return;
        throwIfBug(error);
        // Nonsense is the word of one member only.
        const isNonsense = isCoded(error, 'METAINFO_INVALID');
        if (isCoded(error, 'STALE_ATTEMPT')) throw error;
        if (this.#deps.isDefinite(error) && !isNonsense) throw error;
        turn += 1;
        await delay(ASK_AGAIN_MS, signal).catch(ignoreFailure);
      }
    }
  }

  #learn(news: MetainfoNews): void {
    this.#etag = news.etag;
    if (this.metainfo.merge(news.metainfo) === 'replaced') {
      this.#deps.onDropped?.(this.metainfo);
      throw new CodedError('STALE_ATTEMPT', { detail: { digest: this.metainfo.digest } });
    }
    this.#tell();
  }

  #fail(error: unknown): void {
    if (this.#stopped.signal.aborted) return;
    this.#error = error;
    this.#tell();
  }

  #tell(): void {
    for (const wake of [...this.#waiting]) wake();
  }

  /** Resolves at the next change. */
  async #news(signal: AbortSignal): Promise<void> {
    if (this.#error !== undefined) throw this.#error;
    await new Promise<void>((resolve, reject) => {
      if (signal.aborted) return reject(signal.reason);
      const done = (settle: () => void): void => {
        this.#waiting.delete(wake);
        signal.removeEventListener('abort', onAbort);
        settle();
      };
      const wake = (): void => done(resolve);
      const onAbort = (): void => done(() => reject(signal.reason));
      this.#waiting.add(wake);
      signal.addEventListener('abort', onAbort, { once: true });
    });
    if (this.#error !== undefined) throw this.#error;
  }
}
