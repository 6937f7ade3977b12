import { CodedError } from '@sepia/shared/errors';
import { delay } from '@sepia/shared/lifecycle';
import type { Logger } from '@sepia/shared/log';
import { type AnswerFacts, type BodyPlan, bodyPlan, isRest, restRange } from '../core/body-plan.ts';
import { type OpenedBlob, openBlob } from './blob-source.ts';
import { headerOf, type Origins } from './origins.ts';
import { type BlobName, findSource } from './whereabouts.ts';

/** Another source is looked for after this silence, in ms. */
const STALL_MS = 1_000;
/** Answers about who has the blob are waited for this long once one has it, in ms. */
const RESUME_GRACE_MS = 200;
/** Pause between two looks for another source, in ms. */
const RETRY_MS = 250;

type Step = { type: 'chunk'; chunk: Uint8Array } | { type: 'broken'; cause: unknown } | { type: 'stalled' };

interface Feed {
  readonly originId: string;
  next(): Promise<Step>;
  close(): void;
}

interface BodyDeps {
  readonly origins: Origins;
  readonly log: Logger;
  /** A body that makes no progress at any origin for this long is cut, in ms. */
  readonly stallMs: number;
  /** Called when the rest of a body is taken from another origin. */
  readonly onResume?: () => void;
}

/**
 * The body of a blob answer as one intact stream of chunks: when its origin dies or stalls, the rest is taken by
 * Range from another. Ends only after exactly the announced number of bytes.
 * @throws {CodedError} `TIMEOUT` when no origin makes progress for `stallMs`; `PEER_HTTP` for a body that cannot be resumed
 */
export class ResumableBody {
  readonly #deps: BodyDeps;
  readonly #name: BlobName;
  readonly #plan: BodyPlan | undefined;
  /** Bytes that the whole body must have. */
  readonly lengthBytes: number;
  #feed: Feed | undefined;
  #sentBytes = 0;
  /** Origins that failed this body; they are asked last. */
  readonly #failed = new Set<string>();

  constructor(deps: BodyDeps, name: BlobName, opened: OpenedBlob, rangeHeader: string | undefined) {
    const facts = factsOf(opened, rangeHeader);
    if (facts.contentLength === undefined)
      throw new CodedError('PEER_HTTP', { message: `origin ${opened.originId} sent a blob without length` });
    this.#deps = deps;
    this.#name = name;
    this.#plan = bodyPlan(facts);
    this.lengthBytes = facts.contentLength;
    this.#feed = feedOf(opened);
  }

  close(): void {
    this.#feed?.close();
    this.#feed = undefined;
  }

  /** The next chunk, or undefined after the last. */
  async next(signal: AbortSignal): Promise<Uint8Array | undefined> {
    const startedMs = performance.now();
    while (this.#sentBytes < this.lengthBytes) {
      const step: Step =
        this.#feed === undefined ? { type: 'broken', cause: undefined } : await stepOf(this.#feed, signal);
      if (step.type === 'chunk') {
        this.#sentBytes += step.chunk.length;
        if (this.#sentBytes > this.lengthBytes)
          throw new CodedError('PEER_HTTP', { message: 'origin sent more than it announced' });
        return step.chunk;
      }
      if (performance.now() - startedMs > this.#deps.stallMs)
        throw new CodedError('TIMEOUT', { message: 'no origin makes progress with this blob' });
      if (step.type === 'broken') await this.#afterBreak(step.cause, signal);
      else await this.#takeOver(true, signal);
    }
    return undefined;
  }

  async #afterBreak(cause: unknown, signal: AbortSignal): Promise<void> {
    if (this.#plan === undefined)
      throw new CodedError('PEER_HTTP', { message: 'body of several ranges was cut', cause });
    if (this.#feed !== undefined) this.#failed.add(this.#feed.originId);
    this.close();
    if (!(await this.#takeOver(false, signal))) await delay(RETRY_MS, signal);
  }

  /** Those that did not fail this body first; a stalled one is left out, a broken one comes last. */
  #choose(originIds: readonly string[], onlyHolders: boolean): string[] {
    const isFresh = (id: string): boolean => !this.#failed.has(id) && id !== this.#feed?.originId;
    const others = onlyHolders ? [] : originIds.filter((id) => !isFresh(id));
    return [...originIds.filter(isFresh), ...others];
  }

  /** Finds another origin for the rest; while the present one only stalls, just one that has the whole blob. */
  async #takeOver(onlyHolders: boolean, signal: AbortSignal): Promise<boolean> {
    const plan = this.#plan;
    if (plan === undefined) return false;
    const range = restRange(plan, this.#sentBytes);
    try {
      const source = await findSource(this.#deps.origins, this.#name, signal, RESUME_GRACE_MS);
      const originIds = this.#choose(source.originIds, onlyHolders);
      if (originIds.length === 0 || (onlyHolders && source.type === 'leader')) return false;
      const opened = await openBlob(
        this.#deps.origins,
        { ...source, originIds },
        this.#name,
        'GET',
        { range },
        signal,
      );
      if (!isRest(plan, this.#sentBytes, factsOf(opened, range))) {
        opened.answer.body.destroy();
        return false;
      }
      this.#deps.log.info(
        { digest: this.#name.digest, origin: opened.originId, atBytes: this.#sentBytes },
        'took up a blob at another origin',
      );
      this.#deps.onResume?.();
      this.close();
      this.#feed = feedOf(opened);
      return true;
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      this.#deps.log.debug(
        { err: error, digest: this.#name.digest },
        'no other origin can go on with a blob',
      );
      return false;
    }
  }
}

/** Waits for the next step of a feed for {@link STALL_MS}; a late chunk is not lost, the next call gets it. */
async function stepOf(feed: Feed, signal: AbortSignal): Promise<Step> {
  let timer: NodeJS.Timeout | undefined;
  let onAbort: (() => void) | undefined;
  const stalled = new Promise<Step>((resolve, reject) => {
    timer = setTimeout(() => resolve({ type: 'stalled' }), STALL_MS);
    onAbort = () => reject(signal.reason);
    if (signal.aborted) onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
  });
  try {
    return await Promise.race([feed.next(), stalled]);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', onAbort!);
  }
}

function feedOf(opened: OpenedBlob): Feed {
  const { body } = opened.answer;
  body.on('error', () => undefined);
  const chunks = body[Symbol.asyncIterator]() as AsyncIterator<Uint8Array>;
  let pending: Promise<Step> | undefined;
  return {
    originId: opened.originId,
    next() {
      pending ??= chunks.next().then(
        (step): Step =>
          step.done === true
            ? { type: 'broken', cause: new Error('body ended early') }
            : { type: 'chunk', chunk: step.value },
        (cause: unknown): Step => ({ type: 'broken', cause }),
      );
      return pending.then((step) => {
        pending = undefined;
        return step;
      });
    },
    close: () => void body.destroy(),
  };
}

function factsOf(opened: OpenedBlob, rangeHeader: string | undefined): AnswerFacts {
  const { answer } = opened;
  const length = headerOf(answer, 'content-length');
  const contentLength = length === undefined || !/^\d{1,15}$/.test(length) ? undefined : Number(length);
  return {
    status: answer.status,
    contentLength,
    contentRange: headerOf(answer, 'content-range'),
    rangeHeader,
  };
}
