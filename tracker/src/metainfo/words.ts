import { CodedError, isCoded } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { LatestMap } from '@sepia/base/latest-map';
import { MAX_WORDS, type Word, type WordAsked, type WordsAnswer } from '@sepia/cluster/api/blob-answers';
import { ORIGIN_BLOBS } from '@sepia/cluster/api/origin';
import { to } from '@sepia/cluster/api/route';
import type { AnswerPace } from '@sepia/http/answer-pace';
import type { InternalClient } from '@sepia/http/client';
import { MOST_SILENCE_MS, WORDS_AGAIN_MS } from '../deadlines.ts';

interface WordsDeps {
  readonly client: Pick<InternalClient, 'json'>;
  readonly url: (originId: string) => string;
  readonly pace: AnswerPace;
}

/** Links that one origin is asked for, with the same patience. */
interface Call {
  readonly originId: string;
  readonly leastMs: number;
  readonly asked: WordAsked[];
  readonly over: AbortController;
}

interface Told {
  /** Of each, in their order; fewer where the rest is to be asked for alone. */
  readonly words: readonly Word[];
  /** What those that were asked without an etag hear instead: for an answer that needs no thought it took too long. */
  readonly silence?: unknown;
}

interface Bundle extends Call {
  readonly told: Promise<Told>;
  /** Those that still wait; the call is aborted with the last of them. */
  open: number;
}

const MAX_ORIGINS = 1_000;

/**
 * Questions that one origin is asked in the same turn go to it in one call: each alone costs both several times what its
 * answer does.
 */
export class Words {
  readonly #deps: WordsDeps;
  readonly #bundles = new Map<string, Bundle>();
  /** Origins that do not know the call, and until when they are not asked by it. */
  readonly #former = new LatestMap<string, number>(MAX_ORIGINS);

  constructor(deps: WordsDeps) {
    this.#deps = deps;
  }

  /**
   * What the origin tells; null: it is to be asked alone. It is also where nothing else is asked of it now. `leastMs`: it has
   * so long at least; a question with an etag may need more, and is then asked alone. @throws its silence; the reason of
   * `signal`, for this caller alone
   */
  async ask(originId: string, asked: WordAsked, leastMs: number, signal: AbortSignal): Promise<Word> {
    signal.throwIfAborted();
    if ((this.#former.get(originId) ?? 0) > performance.now()) return null;
    const bundle = this.#bundleFor(originId, leastMs);
    const at = bundle.asked.push(asked) - 1;
    bundle.open += 1;
    let leave = (): void => {};
    try {
      return await new Promise<Word>((resolve, reject) => {
        leave = () => reject(signal.reason);
        signal.addEventListener('abort', leave, { once: true });
        bundle.told.then(({ words, silence }) => {
          if (silence !== undefined && asked.etag === undefined) reject(silence);
          else resolve(words[at] ?? null);
        }, reject);
      });
    } finally {
      signal.removeEventListener('abort', leave);
      bundle.open -= 1;
      if (bundle.open === 0) bundle.over.abort(new CodedError('TIMEOUT', { message: 'nobody waits' }));
    }
  }

  #bundleFor(originId: string, leastMs: number): Bundle {
    const key = `${originId}\n${leastMs}`;
    const begun = this.#bundles.get(key);
    if (begun !== undefined && begun.asked.length < MAX_WORDS) return begun;
    const call: Call = { originId, leastMs, asked: [], over: new AbortController() };
    const bundle = { ...call, told: this.#send(key, call), open: 0 };
    this.#bundles.set(key, bundle);
    return bundle;
  }

  async #send(key: string, call: Call): Promise<Told> {
    // NOTE: to the end of this turn: all that runs in it has asked by then.
    await Promise.resolve();
    if (this.#bundles.get(key)?.asked === call.asked) this.#bundles.delete(key);
    return call.asked.length === 1 ? { words: [] } : await this.#told(call);
  }

  async #told({ originId, leastMs, asked, over }: Call): Promise<Told> {
    const { client, url, pace } = this.#deps;
    const timeoutMs = pace.timeoutMs(leastMs, MOST_SILENCE_MS);
    const askedMs = performance.now();
    const late = AbortSignal.timeout(timeoutMs);
    try {
      const { told } = await client.json<Partial<WordsAnswer>>({
        url: url(originId),
        to: originId,
        ...to(ORIGIN_BLOBS.words),
        json: { asked },
        headersTimeoutMs: timeoutMs,
        bodyTimeoutMs: timeoutMs,
        signal: AbortSignal.any([over.signal, late]),
      });
      if (!Array.isArray(told) || told.length !== asked.length) return { words: [] };
      const isPlain = asked.every(({ etag }) => etag === undefined) && !told.includes(null);
      if (isPlain) pace.note(performance.now() - askedMs);
      return { words: told };
    } catch (error) {
      throwIfBug(error);
      if (late.aborted) return { words: [], silence: error };
      if (!isCoded(error, 'ROUTE_UNKNOWN')) throw error;
      this.#former.set(originId, performance.now() + WORDS_AGAIN_MS);
      return { words: [] };
    }
  }
}
