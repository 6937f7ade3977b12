import { CodedError, isCoded } from '@sepia/base/errors';
import type { Logger } from '@sepia/base/log';
import type { Resolve } from '@sepia/http/names/lookup';
import type { MemberDialling, ProxyAddress } from '@sepia/http/sockets';
import type { TlsTexts } from '@sepia/http/tls/tls-texts';
import type { BearerChallenge } from '@sepia/oci/www-authenticate';
import { isPage } from './answer-facts.ts';
import type { Authorizer, UpstreamChallenge } from './authenticator.ts';
import { Authority, TOKEN_SLOTS } from './authority.ts';
import { apiUrl } from './core/api-url.ts';
import { type Home, isSameItem } from './core/reach.ts';
import { type CredentialSource, type Credentials, fixedCredentials } from './credentials/source.ts';
import { type Answer, discard, exchange, exchangeSmall, type Pauses } from './exchange.ts';
import { failureOf, type Subject, unaskedError } from './failure.ts';
import { follow } from './redirect.ts';
import { MAX_SHARED_PAUSE_SECONDS, PauseBook, retryAfterOf } from './retry-after.ts';
import { BodyGate, RequestTurns, SlotGate } from './slot-gate.ts';
import { UpstreamSockets } from './sockets.ts';
import type { GivenAnswer } from './token.ts';

/** How a registry is reached, by readers and writers alike. */
export interface RegistryAccess {
  /** Name in errors: the upstream's, or the rule's. */
  readonly upstream: string;
  readonly home: Home;
  readonly credentials: CredentialSource | undefined;
  /** Certificates as they are at this moment; without it the system's alone are trusted, and none is shown. */
  readonly tls?: { current(): TlsTexts } | undefined;
  readonly insecure: boolean;
  /** The proxy for a URL; without it every request goes straight. */
  readonly proxyFor?: ((url: URL) => ProxyAddress | undefined) | undefined;
  readonly resolve?: Resolve | undefined;
  readonly log?: Logger | undefined;
  /** It is a proxy of the cluster: how members are dialled. */
  readonly member?: MemberDialling | undefined;
}

interface TransportDeps extends RegistryAccess {
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
  /** Requests to the registry itself; undefined: no limit. */
  readonly perSecond?: number | undefined;
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
  /** In whose name to ask; undefined: the transport chooses. */
  readonly as?: Authorizer | undefined;
  /** Aborted when nobody waits for it any more: see `ManifestQuery`. */
  readonly unwanted?: AbortSignal | undefined;
  /** See `ExchangeDeps`: of the read itself, not of a token for it. */
  readonly waiting?: ((isWaiting: boolean) => void) | undefined;
}

/** The part of a transport that reads a registry and changes nothing there. */
export type RegistryReader = Pick<
  Transport,
  'read' | 'as' | 'close' | 'own' | 'authorizer' | 'token' | 'baseChallenge'
>;

/**
 * Requests to one upstream: connection limit, authentication, redirects, pauses after 429, errors with codes.
 * Credentials and tokens go where {@link Authority} lets them, connections where {@link UpstreamSockets} does.
 */
export class Transport {
  readonly #deps: TransportDeps;
  readonly #options: TransportOptions;
  readonly #sockets: UpstreamSockets;
  readonly #gate: SlotGate;
  readonly #bodyGate: BodyGate;
  readonly #turns: RequestTurns | undefined;
  readonly #authority: Authority;
  /** As the configured credentials say. */
  readonly own: Authorizer;
  readonly #pauses = new PauseBook();
  #closed = false;

  constructor(deps: TransportDeps, options: TransportOptions) {
    this.#deps = deps;
    this.#options = options;
    this.#sockets = socketsOf(deps, {
      connections: options.connections + TOKEN_SLOTS,
      connectTimeoutMs: options.connectTimeoutMs,
    });
    const { queueLimit, queueTimeoutMs: waitMs, perSecond, userAgent } = options;
    const slots = { slots: options.connections, queueLimit, waitMs };
    this.#gate = new SlotGate(slots);
    this.#bodyGate = new BodyGate(this.#gate, slots);
    const { host } = deps.home.base;
    if (perSecond !== undefined)
      this.#turns = new RequestTurns({ perSecond, waitMs, upstream: deps.upstream, host });
    this.#authority = new Authority(
      { ...deps, base: deps.home.base, sockets: this.#sockets },
      { timeoutMs: options.headersTimeoutMs, queueLimit, userAgent },
    );
    this.own = this.#authority.authorizer(deps.credentials);
  }

  /** Asks in the name of `credentials`, or of nobody; keeps its own tokens. */
  authorizer(credentials: Credentials | undefined): Authorizer {
    return this.#authority.authorizer(credentials === undefined ? undefined : fixedCredentials(credentials));
  }

  /** A token from the upstream's own token service, for somebody's credentials. @throws as `Authority.token` */
  async token(
    challenge: BearerChallenge,
    scopes: readonly string[],
    credentials: Credentials | undefined,
  ): Promise<GivenAnswer> {
    return await this.#authority.token(challenge, scopes, credentials);
  }

  /**
   * What `/v2/` itself asks for, or undefined where it lets everybody in: only a clear 200 says that, and none of a page.
   * @throws {CodedError} `BACKEND_DOWN`, `UPSTREAM_LIMITED` for every other answer, and none
   */
  async baseChallenge(signal: AbortSignal): Promise<UpstreamChallenge | undefined> {
    const answer = await this.#send(
      { method: 'GET', headers: {} },
      apiUrl(this.#deps.home.base, ''),
      undefined,
      signal,
    );
    discard(answer);
    if (answer.status === 200 && !isPage(answer)) return undefined;
    const asked =
      answer.status === 401 ? this.#authority.asked(answer.headers['www-authenticate']) : undefined;
    if (asked === undefined) throw unclear(answer, this.#deps.upstream, this.#deps.nowMs());
    return asked;
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
    throw last ?? unaskedError(this.#deps.upstream);
  }

  async #readAs(as: Authorizer, call: RegistryRead, signal: AbortSignal): Promise<Answer> {
    signal.throwIfAborted();
    call.unwanted?.throwIfAborted();
    if (this.#closed) throw new CodedError('DRAINING', { message: 'upstream client is closed' });
    const { home, nowMs } = this.#deps;
    this.#checkPause(call);
    const answer = await this.#follow(as, call, signal);
    if (answer.status === 200 || call.accept?.includes(answer.status) === true) return answer;
    // Whom it is redirected to speaks for the registry where it is one itself, and in one thing: that it has it not.
    const isSame = isSameItem(answer.url, call.path);
    const foreign = answer.url.origin !== home.base.origin && !(isSame && answer.status === 404);
    throw await failureOf(answer, call.subject, {
      nowMs: nowMs(),
      foreign,
      isSame,
      isRange: call.headers['range'] !== undefined,
      hadToken: as.challenge(scopeOf(home.base, call.subject.repository))?.scheme === 'bearer',
    });
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
    await this.#sockets.destroy(new CodedError('DRAINING', { message: 'upstream client is closed' }));
  }

  /** Each hop at the upstream itself brings its own authorization; other hosts never see any, registries among them give nobody's. */
  async #follow(as: Authorizer, call: RegistryRead, signal: AbortSignal): Promise<Answer> {
    const { home, upstream, insecure } = this.#deps;
    const first = apiUrl(home.base, `${call.subject.repository}/${call.path}`);
    return await follow(
      { name: home.base.host, upstream, first, home: home.base, allowPlain: insecure },
      async (url, mayShow) => {
        if (mayShow) return await this.#sendOwn(as, call, url, signal);
        const send = async (authorization?: string): Promise<Answer> =>
          await this.#send(call, url, authorization, signal);
        if (url.origin === home.base.origin || !isSameItem(url, call.path)) return await send();
        return await this.#authority.askElsewhere(url, scopeOf(url, call.subject.repository), send, signal);
      },
    );
  }

  async #sendOwn(as: Authorizer, call: RegistryRead, url: URL, signal: AbortSignal): Promise<Answer> {
    const send = async (authorization: string | undefined): Promise<Answer> =>
      await this.#send(call, url, authorization, signal);
    if (call.authorization !== undefined) return await send(call.authorization);
    return await this.#authority.ask(as, scopeOf(url, call.subject.repository), send, signal);
  }

  async #send(
    call: Pick<RegistryRead, 'method' | 'headers' | 'unwanted' | 'waiting'> &
      (Paused | { readonly subject?: undefined; readonly kind?: undefined }),
    url: URL,
    authorization: string | undefined,
    signal: AbortSignal,
  ): Promise<Answer> {
    const { headersTimeoutMs, bodyTimeoutMs, userAgent } = this.#options;
    const { method, subject, unwanted, waiting } = call;
    const headers = {
      ...call.headers,
      'accept-encoding': 'identity',
      'user-agent': userAgent,
      ...(authorization === undefined ? {} : { authorization }),
    };
    const isBody = call.kind === 'blob' && method === 'GET';
    const isHome = url.origin === this.#deps.home.base.origin;
    const deps = {
      dispatcher: this.#sockets.for(url, 'redirect'),
      gate: isBody ? this.#bodyGate : this.#gate,
      turns: isHome ? this.#turns : undefined,
      pauses: call.kind === undefined ? undefined : this.#pausesOf(call, isHome),
      lane: subject?.repository ?? '',
      unwanted,
      waiting,
      headersTimeoutMs,
      bodyTimeoutMs,
    };
    const request = { url, method, headers, once: carriesPassword(authorization) };
    // Bodies of blobs are gone on with by whoever reads them.
    const isSmall = call.kind !== undefined && !isBody;
    return await (isSmall ? exchangeSmall : exchange)(deps, request, signal);
  }

  /** Whom the registry sends elsewhere was answered by it already. */
  #pausesOf(call: Paused, isHome: boolean): Pauses {
    return {
      check: () => {
        if (isHome) this.#checkPause(call);
      },
      heard: (answer) => this.#noteLimit(call, answer),
    };
  }

  /** @throws `UPSTREAM_LIMITED` while the registry does not want to be asked such a thing */
  #checkPause(call: Paused): void {
    const { home, upstream, nowMs } = this.#deps;
    const left = Math.max(...pauseKeys(call).map((key) => this.#pauses.secondsLeft(key, nowMs())));
    if (left === 0) return;
    throw new CodedError('UPSTREAM_LIMITED', {
      message: `${home.base.host} limits the request rate; asked again in ${left} s`,
      detail: { upstream, retryAfterSeconds: left },
    });
  }

  /** Notes the pause that an answer asks for. */
  #noteLimit(call: Paused, answer: Pick<Answer, 'status' | 'headers'>): void {
    if (answer.status !== 429) return;
    const nowMs = this.#deps.nowMs();
    const seconds = Math.max(1, retryAfterOf(answer, nowMs) ?? 1);
    const [request, own] = pauseKeys(call);
    this.#pauses.pause(own, seconds, nowMs);
    this.#pauses.pause(request, Math.min(seconds, MAX_SHARED_PAUSE_SECONDS), nowMs);
    this.#deps.log.warn(
      { upstream: this.#deps.upstream, seconds, request },
      'upstream limits the request rate',
    );
  }
}

/** A request that a pause may hold back. */
type Paused = Pick<RegistryRead, 'method' | 'kind' | 'subject'>;

/** What pauses are noted under: for all repositories, and for this one. */
function pauseKeys({ method, kind, subject }: Paused): [all: string, own: string] {
  const all = `${method} ${kind}`;
  return [all, `${all}\n${subject.repository}`];
}

/** Sockets for a registry and for the hosts that it redirects to. */
export function socketsOf(
  access: RegistryAccess,
  limits: { readonly connections: number; readonly connectTimeoutMs: number },
): UpstreamSockets {
  const { upstream, home, insecure, tls, resolve, member, log } = access;
  const proxyFor = access.proxyFor ?? (() => undefined);
  return new UpstreamSockets(
    { upstream, home, proxyFor, tls, resolve, member, log },
    { ...limits, insecure },
  );
}

/** True for an `Authorization` that a registry counts as a try to log in. */
export function carriesPassword(authorization: string | undefined): boolean {
  return authorization !== undefined && /^basic /i.test(authorization);
}

/** An answer of `/v2/` that says neither that everybody may come in nor what to bring. */
function unclear(answer: Answer, upstream: string, nowMs: number): CodedError {
  const { status, url } = answer;
  const retryAfter = retryAfterOf(answer, nowMs);
  const how = status === 401 ? ' and names no way to log in that may be followed' : '';
  return new CodedError(status === 429 ? 'UPSTREAM_LIMITED' : 'BACKEND_DOWN', {
    message: `${url.host} does not say who may come in: /v2/ answered ${status}${isPage(answer) ? ' with a web page' : how}`,
    detail: {
      upstream,
      host: url.host,
      status,
      ...(retryAfter === undefined ? {} : { retryAfterSeconds: retryAfter }),
    },
  });
}

/** True where other credentials could help; some registries hide what is private behind a 404. */
function isRefusal(error: unknown): boolean {
  if (!isCoded(error)) return false;
  if (error.code === 'UPSTREAM_DENIED') return [401, 403].includes(Number(error.detail['status']));
  return Number(error.detail['status']) === 404;
}

/** A redirect within the upstream may lead to another repository (Docker Hub projects of Harbor): its scope is asked then. */
function scopeOf(url: URL, repository: string): string {
  const found = /\/v2\/(.+)\/(?:manifests|blobs|tags|referrers)\//.exec(url.pathname);
  return `repository:${found?.[1] ?? repository}:pull`;
}
