import { CodedError } from '@sepia/base/errors';
import { logFailure } from '@sepia/base/failure';
import type { Logger } from '@sepia/base/log';
import { isRepositoryName } from '@sepia/base/names/repository';
import { type NamedUpstream, resolveName } from '@sepia/base/names/upstream-name';
import { referenceText } from '@sepia/oci/route';
import { KRAKEN_ANSWER_MS, PREHEAT_MS } from '../deadlines.ts';
import type { HarborConfig } from './config.ts';
import { type ImageName, parseImageUrl } from './core/image-url.ts';
import type { PushNotice } from './core/messages.ts';
import type { Preheat, PreheatRequest } from './preheat.ts';

const MAX_RUNNING = 64;

interface KrakenDeps {
  readonly upstreams: () => readonly NamedUpstream[];
  readonly preheat: (request: PreheatRequest) => Preheat;
  readonly config: HarborConfig['kraken'];
  readonly log: Logger;
}

interface Flight {
  readonly preheat: Preheat;
  readonly done: Promise<void>;
}

/** Preheats by notification. Harbor never asks again: the answer is all that it hears. */
export class KrakenDriver {
  readonly #deps: KrakenDeps;
  readonly #answerMs: number;
  readonly #flights = new Map<string, Flight>();
  readonly #stopped = new AbortController();

  constructor(deps: KrakenDeps, options: { readonly answerMs?: number } = {}) {
    this.#deps = deps;
    this.#answerMs = options.answerMs ?? KRAKEN_ANSWER_MS;
  }

  /**
   * Resolves when the origins have every blob of every image (with `answer: accepted` when they are begun).
   * @throws what failed; `TIMEOUT` when it is not done soon enough: it goes on all the same
   */
  async take(notices: readonly PushNotice[], defaultUpstream: string): Promise<void> {
    const flights = notices.map((notice) => this.#begin(this.#imageOf(notice, defaultUpstream)));
    if (this.#deps.config.answer === 'accepted') return;
    const late = new AbortController();
    const timer = setTimeout(() => late.abort(), this.#answerMs);
    try {
      await Promise.race([
        Promise.all(flights.map(({ done }) => done)),
        new Promise<never>((_, reject) => {
          late.signal.addEventListener('abort', () => reject(this.#lateError(flights)), { once: true });
        }),
      ]);
    } finally {
      clearTimeout(timer);
    }
  }

  async stop(): Promise<void> {
    this.#stopped.abort(new CodedError('DRAINING'));
    await Promise.allSettled([...this.#flights.values()].map(({ done }) => done));
  }

  /** One run for all that ask for the same image at once. */
  #begin(image: ImageName): Flight {
    const reference = referenceText(image.reference);
    const key = `${image.upstream}\n${image.repository}\n${reference}`;
    const running = this.#flights.get(key);
    if (running !== undefined) return running;
    if (this.#flights.size >= MAX_RUNNING)
      throw new CodedError('OVERLOADED', { message: `${MAX_RUNNING} preheats run here; try again later` });
    const commandId = `notice-${Date.now().toString(36)}-${Math.floor(performance.now() * 1000).toString(36)}`;
    const { scope } = this.#deps.config;
    const preheat = this.#deps.preheat({ image, scope, authorization: undefined, commandId });
    const signal = AbortSignal.any([this.#stopped.signal, AbortSignal.timeout(PREHEAT_MS)]);
    const done = preheat.run(signal).finally(() => this.#flights.delete(key));
    done.then(
      () => this.#deps.log.info({ ...image, reference }, 'image preheated by notification'),
      (error: unknown) =>
        logFailure(this.#deps.log, error, 'preheat by notification failed', { ...image, reference }),
    );
    const flight = { preheat, done };
    this.#flights.set(key, flight);
    return flight;
  }

  /** By the digest where one is named, whatever its tag is by now; the registry by the host of its URL. */
  #imageOf(notice: PushNotice, defaultUpstream: string): ImageName {
    const { repository, digest, tag, url } = notice;
    if (!isRepositoryName(repository))
      throw new CodedError('REQUEST_INVALID', { message: 'target.repository is not a repository name' });
    const reference =
      digest === undefined ? ({ kind: 'tag', tag: tag! } as const) : ({ kind: 'digest', digest } as const);
    const upstreams = this.#deps.upstreams();
    if (url === undefined)
      return { ...resolveName({ ns: undefined, name: repository, defaultUpstream }, upstreams), reference };
    const { image } = parseImageUrl(url, upstreams, defaultUpstream);
    return { upstream: image.upstream, repository, reference };
  }

  #lateError(flights: readonly Flight[]): CodedError {
    const counts = flights.map(({ preheat }) => preheat.counts);
    const done = counts.reduce((sum, one) => sum + one.done, 0);
    const all = counts.reduce((sum, one) => sum + one.all, 0);
    return new CodedError('TIMEOUT', {
      message: `not done within ${this.#answerMs / 1000} s (${done} of ${all} blobs stored); it goes on in the background`,
    });
  }
}
