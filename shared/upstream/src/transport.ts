import { CodedError, isCoded } from '@sepia/base/errors';
import type { Logger } from '@sepia/base/log';
import { createDispatcher } from '@sepia/http/sockets';
import { type BearerChallenge, bearerOf, parseChallenges } from '@sepia/oci/www-authenticate';
import { Authenticator, type Authorizer, type UpstreamChallenge } from './authenticator.ts';
import { type Answer, discard, type ExchangeDeps, exchange, header } from './exchange.ts';
import { failureOf, type Subject } from './failure.ts';
import { MAX_REDIRECTS, redirectTarget } from './redirect.ts';
import { MAX_SHARED_PAUSE_SECONDS, PauseBook, retryAfterSeconds } from './retry-after.ts';
import { SlotGate } from './slot-gate.ts';
import { type Credentials, type GivenAnswer, requestToken, TokenCache } from './token.ts';

/** Sockets kept beside `max-connections` for token requests, which may be to the same host: they never wait for bodies. */
const TOKEN_SLOTS = 2;

interface TransportDeps {
  readonly upstream: string;
  readonly base: URL;
  readonly credentials: Credentials | undefined;
  readonly ca: string | undefined;
  readonly insecure: boolean;
  readonly proxy: string | undefined;
  readonly log: Logger;
  readonly nowMs: () => number;
  /** In whose name a repository is read, in the order to try; without it always as `credentials` say. */
  readonly names?: NamesOf | undefined;
}

/** Who may read a repository, in the order to try; see {@link Transport.read}. */
export type NamesOf = (repository: string, signal: AbortSignal) => AsyncIterable<Authorizer>;

export interface TransportOptions {
  readonly connections: number;
  readonly connectTimeoutMs: number;
  readonly headersTimeoutMs: number;
  readonly bodyTimeoutMs: number;
  readonly queueLimit: number;
  readonly queueTimeoutMs: number;
  readonly userAgent: string;
}

/** A read of the registry. `kind` is what rate limits and pauses apply to. */
export interface RegistryRead {
  readonly method: 'GET' | 'HEAD';
  /** Below `/v2/<repository>/`, with query. */
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly subject: Subject;
  readonly kind: 'manifest' | 'blob' | 'tags';
  /** Statuses handed back beside 200; everything else is thrown. */
  readonly accept?: readonly number[];
  /** Sent to the upstream itself in place of its own credentials; a 401 is then final. */
  readonly authorization?: string;
  /** In whose name, where it is not for the transport to choose. */
  readonly as?: Authorizer | undefined;
}

/** What reads the registry. */
export type RegistryReader = Pick<
  Transport,
  'read' | 'as' | 'close' | 'own' | 'authorizer' | 'token' | 'baseChallenge'
>;

/**
 * Requests to one upstream: connection limit, authentication, redirects, pauses after 429, errors with codes.
 * Credentials and tokens only go to the upstream's own scheme, host and port, and to the realm that its own challenge names.
 */
export class Transport {
  readonly #deps: TransportDeps;
  readonly #options: TransportOptions;
  readonly #exchange: ExchangeDeps;
  readonly #tokenExchange: ExchangeDeps;
  /** As the configured credentials say. */
  readonly own: Authorizer;
  readonly #pauses = new PauseBook();
  #closed = false;

  constructor(deps: TransportDeps, options: TransportOptions) {
    this.#deps = deps;
    this.#options = options;
    const dispatcher = createDispatcher({
      connections: options.connections + TOKEN_SLOTS,
      connectTimeoutMs: options.connectTimeoutMs,
      insecure: deps.insecure,
      ...(deps.ca === undefined ? {} : { ca: deps.ca }),
      ...(deps.proxy === undefined ? {} : { proxy: deps.proxy }),
    });
    const shared = {
      dispatcher,
      headersTimeoutMs: options.headersTimeoutMs,
      bodyTimeoutMs: options.bodyTimeoutMs,
    };
    const gate = (slots: number): SlotGate =>
      new SlotGate({ slots, queueLimit: options.queueLimit, waitMs: options.queueTimeoutMs });
    this.#exchange = { ...shared, gate: gate(options.connections) };
    this.#tokenExchange = { ...shared, gate: gate(TOKEN_SLOTS) };
    this.own = this.authorizer(deps.credentials);
  }

  /** Asks in the name of `credentials`, or of nobody; keeps its own tokens. */
  authorizer(credentials: Credentials | undefined): Authenticator {
    const tokens = new TokenCache({ ...this.#tokenDeps(), credentials });
    return new Authenticator({ credentials, tokens, mayAsk: (realm) => this.#mayAskRealm(realm) });
  }

  /** A token from the upstream's own token service, for somebody's credentials. @throws as {@link requestToken} */
  async token(
    challenge: BearerChallenge,
    scopes: readonly string[],
    credentials: Credentials | undefined,
  ): Promise<GivenAnswer> {
    if (!this.#mayAskRealm(challenge.realm))
      throw new CodedError('UPSTREAM_DENIED', {
        message: `the token service of upstream ${this.#deps.upstream} is not https; not asked`,
        detail: { upstream: this.#deps.upstream },
      });
    return await requestToken(this.#tokenDeps(), challenge, scopes, credentials);
  }

  /**
   * What `/v2/` itself asks for, or undefined where it lets everybody in: only a clear 200 says that.
   * @throws {CodedError} `BACKEND_DOWN`, `UPSTREAM_LIMITED` for every other answer, and none
   */
  async baseChallenge(signal: AbortSignal): Promise<UpstreamChallenge | undefined> {
    const url = new URL('/v2/', this.#deps.base);
    const headers = { 'user-agent': this.#options.userAgent };
    const answer = await exchange(this.#exchange, { url, method: 'GET', headers }, signal);
    discard(answer);
    if (answer.status === 200) return undefined;
    if (answer.status !== 401) throw unclear(answer, this.#deps.upstream, this.#deps.nowMs());
    const challenges = parseChallenges(answer.headers['www-authenticate']);
    const bearer = bearerOf(challenges);
    if (bearer !== undefined && this.#mayAskRealm(bearer.realm)) return { scheme: 'bearer', ...bearer };
    return challenges.some(({ scheme }) => scheme === 'basic') ? { scheme: 'basic' } : undefined;
  }

  #tokenDeps() {
    return {
      upstream: this.#deps.upstream,
      nowMs: this.#deps.nowMs,
      timeoutMs: this.#options.headersTimeoutMs,
      send: (url: URL, authorization: string | undefined, signal: AbortSignal) =>
        this.#sendToken(url, authorization, signal),
    };
  }

  /**
   * The answer to a read, with status 200 or one of `accept`; its body must be read or destroyed. Where it is for
   * the transport to choose a name, the next one is tried after a refusal.
   * @throws {CodedError} see {@link failureOf}; the signal's reason when aborted
   */
  async read(call: RegistryRead, signal: AbortSignal): Promise<Answer> {
    const { names } = this.#deps;
    if (call.as !== undefined || call.authorization !== undefined || names === undefined)
      return await this.#readAs(call.as ?? this.own, call, signal);
    let last: unknown;
    for await (const as of names(call.subject.repository, signal)) {
      try {
        return await this.#readAs(as, call, signal);
      } catch (error) {
        if (!isRefusal(error)) throw error;
        // What is unknown to somebody who may look is a better answer than a refusal.
        if (last === undefined || !isCoded(error, 'UPSTREAM_DENIED')) last = error;
      }
    }
    throw last ?? new CodedError('UPSTREAM_DENIED', { detail: { upstream: this.#deps.upstream } });
  }

  async #readAs(as: Authorizer, call: RegistryRead, signal: AbortSignal): Promise<Answer> {
    signal.throwIfAborted();
    if (this.#closed) throw new CodedError('DRAINING', { message: 'upstream client is closed' });
    const pauseKey = `${call.method} ${call.kind}`;
    const own = `${pauseKey}\n${call.subject.repository}`;
    const nowMs = this.#deps.nowMs();
    const left = Math.max(this.#pauses.secondsLeft(pauseKey, nowMs), this.#pauses.secondsLeft(own, nowMs));
    if (left > 0) {
      throw new CodedError('UPSTREAM_LIMITED', {
        message: `${this.#deps.base.host} limits the request rate; asked again in ${left} s`,
        detail: { upstream: this.#deps.upstream, retryAfterSeconds: left },
      });
    }
    const answer = await this.#follow(as, call, signal);
    if (answer.status === 200 || call.accept?.includes(answer.status) === true) return answer;
    const failure = await failureOf(answer, call.subject, {
      nowMs: this.#deps.nowMs(),
      foreign: !this.#isOwn(answer.url),
    });
    if (failure.code === 'UPSTREAM_LIMITED') this.#pause(pauseKey, call.subject.repository, failure);
    throw failure;
  }

  /** The same connections and limits with another `Authorization`; closing it does nothing. */
  as(authorization: string): RegistryReader {
    return {
      read: (call, signal) => this.read({ ...call, authorization }, signal),
      as: (other) => this.as(other),
      own: this.own,
      authorizer: (credentials) => this.authorizer(credentials),
      baseChallenge: (signal) => this.baseChallenge(signal),
      token: (...asked) => this.token(...asked),
      close: () => Promise.resolve(),
    };
  }

  /** Cuts what is under way and closes all connections. Idempotent. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#exchange.dispatcher.destroy(
      new CodedError('DRAINING', { message: 'upstream client is closed' }),
    );
  }

  /** Follows redirects; each hop at the upstream itself brings its own authorization, other hosts never see any. */
  async #follow(as: Authorizer, call: RegistryRead, signal: AbortSignal): Promise<Answer> {
    let url = new URL(`/v2/${call.subject.repository}/${call.path}`, this.#deps.base);
    let trusted = true;
    for (let hop = 0; hop <= MAX_REDIRECTS; hop++) {
      trusted &&= this.#isOwn(url);
      const answer = trusted
        ? await this.#sendOwn(as, call, url, signal)
        : await this.#sendOnce(call, url, undefined, signal);
      const target = targetOf(answer, this.#deps.insecure);
      if (target === undefined) return answer;
      url = target;
    }
    throw new CodedError('BACKEND_DOWN', {
      message: `${this.#deps.base.host} redirects more than ${MAX_REDIRECTS} times`,
      detail: { upstream: this.#deps.upstream },
    });
  }

  /** One request to the upstream itself; repeated once with fresh authorization after a 401. */
  async #sendOwn(as: Authorizer, call: RegistryRead, url: URL, signal: AbortSignal): Promise<Answer> {
    if (call.authorization !== undefined) return await this.#sendOnce(call, url, call.authorization, signal);
    const scope = scopeOf(url, call.subject.repository);
    const authorization = await as.header(scope, signal);
    const answer = await this.#sendOnce(call, url, authorization, signal);
    if (answer.status !== 401) return answer;
    let fresh: string | undefined;
    try {
      fresh = await as.afterRefusal(scope, authorization, answer.headers['www-authenticate'], signal);
    } catch (error) {
      discard(answer);
      throw error;
    }
    if (fresh === undefined) return answer;
    discard(answer);
    const second = await this.#sendOnce(call, url, fresh, signal);
    if (second.status === 401) as.reset();
    return second;
  }

  async #sendOnce(
    call: RegistryRead,
    url: URL,
    authorization: string | undefined,
    signal: AbortSignal,
  ): Promise<Answer> {
    const headers = {
      ...call.headers,
      'accept-encoding': 'identity',
      'user-agent': this.#options.userAgent,
      ...(authorization === undefined ? {} : { authorization }),
    };
    return await exchange(this.#exchange, { url, method: call.method, headers }, signal);
  }

  async #sendToken(first: URL, authorization: string | undefined, signal: AbortSignal): Promise<Answer> {
    let url = first;
    let trusted = true;
    for (let hop = 0; hop <= MAX_REDIRECTS; hop++) {
      trusted &&= url.origin === first.origin;
      const headers = {
        accept: 'application/json',
        'user-agent': this.#options.userAgent,
        ...(authorization === undefined || !trusted ? {} : { authorization }),
      };
      const answer = await exchange(this.#tokenExchange, { url, method: 'GET', headers }, signal);
      const target = targetOf(answer, this.#deps.insecure);
      if (target === undefined) return answer;
      url = target;
    }
    throw new CodedError('BACKEND_DOWN', {
      message: `token service ${first.host} redirects more than ${MAX_REDIRECTS} times`,
      detail: { host: first.host },
    });
  }

  #mayAskRealm(realm: string): boolean {
    const allowed =
      this.#deps.base.protocol === 'http:' || this.#deps.insecure || new URL(realm).protocol === 'https:';
    if (!allowed)
      this.#deps.log.warn(
        { upstream: this.#deps.upstream, realm },
        'token realm is not https; not asked (set insecure to allow it)',
      );
    return allowed;
  }

  #pause(key: string, repository: string, failure: CodedError): void {
    const seconds = Number(failure.detail['retryAfterSeconds'] ?? 1);
    const nowMs = this.#deps.nowMs();
    this.#pauses.pause(`${key}\n${repository}`, seconds, nowMs);
    this.#pauses.pause(key, Math.min(seconds, MAX_SHARED_PAUSE_SECONDS), nowMs);
    this.#deps.log.warn(
      { upstream: this.#deps.upstream, seconds, request: key },
      'upstream limits the request rate',
    );
  }

  #isOwn(url: URL): boolean {
    return url.origin === this.#deps.base.origin;
  }
}

/** An answer of `/v2/` that says neither that everybody may come in nor what to bring. */
function unclear(answer: Answer, upstream: string, nowMs: number): CodedError {
  const { status, url } = answer;
  const seconds = retryAfterSeconds(header(answer, 'retry-after'), nowMs);
  return new CodedError(status === 429 ? 'UPSTREAM_LIMITED' : 'BACKEND_DOWN', {
    message: `${url.host} does not say who may come in: /v2/ answered ${status}`,
    detail: {
      upstream,
      host: url.host,
      status,
      ...(seconds === undefined ? {} : { retryAfterSeconds: seconds }),
    },
  });
}

/** True where other credentials could help; some registries hide what is private behind a 404. */
function isRefusal(error: unknown): boolean {
  if (!isCoded(error)) return false;
  if (error.code === 'UPSTREAM_DENIED') return [401, 403].includes(Number(error.detail['status']));
  return Number(error.detail['status']) === 404;
}

function targetOf(answer: Answer, allowPlain: boolean): URL | undefined {
  let target: URL | undefined;
  try {
    target = redirectTarget(answer, allowPlain);
  } catch (error) {
    discard(answer);
    throw error;
  }
  if (target !== undefined) discard(answer);
  return target;
}

/** A redirect within the upstream may lead to another repository (Docker Hub projects of Harbor): its scope is asked then. */
function scopeOf(url: URL, repository: string): string {
  const found = /^\/v2\/(.+)\/(?:manifests|blobs|tags)\//.exec(url.pathname);
  return `repository:${found?.[1] ?? repository}:pull`;
}
