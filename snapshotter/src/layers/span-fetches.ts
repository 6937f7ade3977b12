import { type CodedError, isCoded } from '@sepia/base/errors';
import { ignoreFailure } from '@sepia/base/failure';
import { compressedRange, type LayerHead, type SpanRange, spanRanges } from '@sepia/lazy/index/layer-index';
import { readSpan } from '@sepia/lazy/index/read-span';
import type { AgentSource } from './agent-source.ts';
import type { LayerHome } from './core/homes.ts';
import { type Run, runsOf } from './core/runs.ts';

interface SpanFetchesDeps {
  readonly index: LayerHead;
  readonly source: Pick<AgentSource, 'read'>;
  /** Where reads go now: never empty, the first is asked first. */
  readonly homes: () => readonly LayerHome[];
  readonly isStored: (span: number) => boolean;
  /** What the index has stored of the span's window. */
  readonly window: (span: number) => Promise<Buffer>;
  /** True: it is on disk. False: there is no room for it. */
  readonly store: (span: number, bytes: Buffer) => Promise<boolean>;
  /** Bytes that came from the agent. */
  readonly onFetched: (bytes: number) => void;
  /** What the agent sends does not fit the index, again and again. */
  readonly onMismatch: (error: CodedError) => void;
  readonly signal: AbortSignal;
}

/** A span that somebody waits for; resolves with its bytes if they are not on disk. */
type Waited = PromiseWithResolvers<Buffer | undefined>;
type Taken = (span: number, unstored?: Buffer) => void;

/** Spans that are fetched by one request, at most. */
const MAX_RUN = 8;
/** Bytes that do not fit their index are fetched again: a source may have lied. */
const MISMATCH_TRIES = 3;

/** The spans of one layer that are on their way: each is fetched once, verified, and there as soon as it is stored; what found no room goes to who waits. */
export class SpanFetches {
  readonly #deps: SpanFetchesDeps;
  readonly #running = new Map<number, Waited>();

  constructor(deps: SpanFetchesDeps) {
    this.#deps = deps;
  }

  has(span: number): boolean {
    return this.#running.has(span);
  }

  /** Resolves when nothing is on its way any more. */
  async ended(): Promise<void> {
    await Promise.allSettled([...this.#running.values()].map(({ promise }) => promise));
  }

  /**
   * Resolves when these spans, ascending, are stored, with the bytes of those for which the disk has no room.
   * @throws {CodedError} `TIMEOUT`, `AUTH_DENIED`, `DIGEST_MISMATCH`, `LAYER_INVALID`, or the signal's reason
   */
  async need(spans: readonly number[]): Promise<Map<number, Buffer>> {
    const fresh = spans.filter((span) => !this.#running.has(span));
    for (const run of runsOf(fresh, MAX_RUN)) this.#begin(run);
    const unstored = new Map<number, Buffer>();
    const wait = async (span: number): Promise<void> => {
      const bytes = await this.#running.get(span)!.promise;
      if (bytes !== undefined) unstored.set(span, bytes);
    };
    await Promise.all(spans.map(wait));
    return unstored;
  }

  #begin({ first, last }: Run): void {
    const spans = Array.from({ length: last - first + 1 }, (): Waited => Promise.withResolvers());
    for (const [step, one] of spans.entries()) {
      this.#running.set(first + step, one);
      // Not every span has a reader.
      one.promise.catch(ignoreFailure);
    }
    const end = (span: number): Waited => {
      const one = spans[span - first]!;
      if (this.#running.get(span) === one) this.#running.delete(span);
      return one;
    };
    const taken = (span: number, unstored?: Buffer): void => end(span).resolve(unstored);
    this.#fetch({ first, last }, taken).then(
      () => spans.forEach((_one, step) => void taken(first + step)),
      (error: unknown) => spans.forEach((_one, step) => void end(first + step).reject(error)),
    );
  }

  async #fetch({ first, last }: Run, taken: Taken): Promise<void> {
    for (let tries = 1; ; tries++) {
      try {
        for (const range of spanRanges(this.#deps.index, first, last)) await this.#fetchRange(range, taken);
        return;
      } catch (error) {
        if (!isCoded(error, 'DIGEST_MISMATCH') && !isCoded(error, 'LAYER_INVALID')) throw error;
        if (tries < MISMATCH_TRIES) continue;
        this.#deps.onMismatch(error);
        throw error;
      }
    }
  }

  /** Spans are stored one after the other, each as soon as its bytes came. */
  async #fetchRange(range: SpanRange, taken: Taken): Promise<void> {
    const { first, last, start, end, source: blob } = range;
    const { index, source, homes, isStored, onFetched, signal } = this.#deps;
    const spans = Array.from({ length: last - first + 1 }, (_none, step) => first + step);
    if (spans.every((span) => isStored(span))) return;
    let next = first;
    let storing = Promise.resolve();
    const arrived = (bytes: Buffer, length: number): void => {
      for (; next <= last && compressedRange(index, next).end - start <= length; next++) {
        const span = next;
        storing = storing.then(async () => {
          taken(span, await this.#take(span, bytes, start));
        });
        // It is told below, once nothing more comes.
        storing.catch(ignoreFailure);
      }
    };
    const [home, ...others] = homes() as [LayerHome];
    const from = { ...home, digest: blob ?? index.layer, others };
    try {
      const bytes = await source.read(from, start, end, signal, arrived);
      onFetched(bytes.length);
      arrived(bytes, bytes.length);
    } finally {
      // Whoever gives up closes the files: nothing may be under way then.
      await storing.catch(ignoreFailure);
    }
    await storing;
  }

  /** One span from the bytes of a range that begins at `start`; its bytes where they could not be stored. */
  async #take(span: number, compressed: Buffer, start: number): Promise<Buffer | undefined> {
    const { index, isStored, window, store } = this.#deps;
    if (isStored(span)) return undefined;
    const range = compressedRange(index, span);
    const bytes = compressed.subarray(range.start - start, range.end - start);
    const own = await readSpan(index, span, bytes, await window(span));
    // A copy: they may be a part of all that came with them.
    return (await store(span, own)) ? undefined : Buffer.from(own);
  }
}
