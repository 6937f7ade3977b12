import { SingleFlight } from '@sepia/base/async/single-flight';
import { CodedError, isCoded, NOT_SHOWN } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { LatestMap } from '@sepia/base/latest-map';
import type { Logger } from '@sepia/base/log';
import { type BearerChallenge, bearerOf, parseChallenges } from '@sepia/oci/www-authenticate';
import { Authenticator, type Authorizer, type UpstreamChallenge } from './authenticator.ts';
import { apiUrl } from './core/api-url.ts';
import { mayBear } from './core/reach.ts';
import type { CredentialSource, Credentials } from './credentials/source.ts';
import { NO_CHALLENGE_MS } from './deadlines/upstreams.ts';
import { type Answer, discard, down, exchangeSmall } from './exchange.ts';
import { DENIED_ELSEWHERE } from './failure.ts';
import { follow } from './redirect.ts';
import { SlotGate } from './slot-gate.ts';
import type { UpstreamSockets } from './sockets.ts';
import { type GivenAnswer, requestToken, type Shown, TokenCache } from './token.ts';

/** Sockets for token requests: they never wait for bodies. */
export const TOKEN_SLOTS = 2;
/** Registries that this one leads to and whose tokens are kept; the oldest is forgotten first. */
const MAX_ELSEWHERE = 32;
/** Answers of `/v2/` that say nothing of what it asks for. */
const BUSY = [429, 502, 503, 504];

interface AuthorityDeps {
  readonly upstream: string;
  readonly base: URL;
  readonly sockets: UpstreamSockets;
  readonly insecure: boolean;
  readonly log: Logger;
  readonly nowMs: () => number;
}

interface AuthorityOptions {
  /** Longest time for one token, in ms. */
  readonly timeoutMs: number;
  readonly queueLimit: number;
  readonly userAgent: string;
}

/**
 * Who may see credentials for a registry, the one rule for all that speak to one. Basic goes to its own scheme, host and
 * port. Passwords go to token services on its host or registrable domain, or that its operator listed; others are asked
 * in nobody's name, and only where they may be dialled at all. An https registry's are https.
 */
export class Authority {
  readonly #deps: AuthorityDeps;
  readonly #options: AuthorityOptions;
  readonly #gate: SlotGate;
  /** Token services that were told of; which ones a registry names is its own affair. */
  readonly #warned = new LatestMap<string, true>(MAX_ELSEWHERE);
  readonly #asking = new SingleFlight<string, string | readonly string[] | undefined>();
  /** Until when `/v2/` is not asked what it wants: it wanted nothing. */
  #unaskedUntilMs = 0;
  /** Who asks the registries that this one leads to, by their origin. */
  readonly #elsewhere = new LatestMap<string, Authenticator>(MAX_ELSEWHERE);
  /** Those ones: what this one's `/v2/` asks for says nothing of where it leads. */
  readonly #strangers = new WeakSet<Authorizer>();

  constructor(deps: AuthorityDeps, options: AuthorityOptions) {
    this.#deps = deps;
    this.#options = options;
    this.#gate = new SlotGate({
      slots: TOKEN_SLOTS,
      queueLimit: options.queueLimit,
      waitMs: options.timeoutMs,
    });
  }

  /** Asks in somebody's name, or in nobody's; keeps its own tokens. */
  authorizer(credentials: CredentialSource | undefined): Authenticator {
    const deps = { ...this.#tokenDeps(), credentials, mayBear: (realm: URL) => this.#mayBear(realm) };
    const tokens = new TokenCache(deps);
    return new Authenticator({ credentials, tokens, objection: (realm) => this.#objection(realm) });
  }

  /**
   * A token from the registry's own token service, for somebody's credentials: they are shown once.
   * @throws as {@link requestToken}; `UPSTREAM_DENIED` for a token service that must not see them
   */
  async token(
    challenge: BearerChallenge,
    scopes: readonly string[],
    credentials: Credentials | undefined,
  ): Promise<GivenAnswer> {
    const objection = this.#objection(challenge.realm);
    if (objection !== undefined) throw objection;
    if (credentials !== undefined && !this.#mayBear(new URL(challenge.realm)))
      throw this.#denied(
        `token service ${new URL(challenge.realm).host} is not of upstream ${this.#deps.upstream}; no password is shown to it (list it in realm-hosts if that is right)`,
      );
    return await requestToken(this.#tokenDeps(), challenge, scopes, credentials);
  }

  /** What a 401 of the registry asks for, as far as it may be followed. */
  asked(wwwAuthenticate: string | readonly string[] | undefined): UpstreamChallenge | undefined {
    const challenges = parseChallenges(wwwAuthenticate);
    const bearer = bearerOf(challenges);
    if (bearer !== undefined && this.#objection(bearer.realm) === undefined)
      return { scheme: 'bearer', ...bearer };
    return challenges.some(({ scheme }) => scheme === 'basic') ? { scheme: 'basic' } : undefined;
  }

  /**
   * One request to the registry in somebody's name, by `send`; sent once more with something new after a 401. Where no
   * token can be had the registry is asked without one first: it knows best who gives them now, or that none are needed.
   */
  async ask(
    as: Authorizer,
    scope: string,
    send: (authorization: string | undefined) => Promise<Answer>,
    signal: AbortSignal,
  ): Promise<Answer> {
    let authorization: string | undefined;
    let without: { readonly error: CodedError; readonly asked: UpstreamChallenge | undefined } | undefined;
    try {
      authorization = await as.header(scope, signal);
    } catch (error) {
      if (signal.aborted || !isCoded(error) || error.code === 'UPSTREAM_LIMITED') throw error;
      without = { error, asked: as.challenge(scope) };
      as.reset();
    }
    const first = await send(authorization);
    let fresh: string | undefined;
    try {
      if (without === undefined) fresh = await this.#afresh(as, scope, authorization, first, signal);
      else if (first.status === 401) {
        if (this.#isStill(without.asked, first)) throw without.error;
        fresh = await as.afterRefusal(scope, authorization, first.headers['www-authenticate'], signal);
      } else if (as.isSomebody && hides(first.status) && mayPass(without.error)) throw without.error;
    } catch (error) {
      discard(first);
      throw error;
    }
    if (fresh === undefined) return first;
    discard(first);
    const second = await send(fresh);
    if (second.status === 401 || second.status === 403) as.refused(scope, fresh);
    if (second.status === 401) as.reset();
    return second;
  }

  /**
   * One request to a registry that this one led to, as gateways with a name of their own do (`lscr.io` to `ghcr.io`): in
   * nobody's name, with a token of that one where it wants one, whatever was shown here.
   * @throws {CodedError} `BACKEND_DOWN` where it gives nobody a token: that says nothing of who may read here
   */
  async askElsewhere(
    url: URL,
    scope: string,
    send: (authorization: string | undefined) => Promise<Answer>,
    signal: AbortSignal,
  ): Promise<Answer> {
    const nobody = this.#elsewhere.get(url.origin) ?? this.authorizer(undefined);
    this.#elsewhere.set(url.origin, nobody);
    this.#strangers.add(nobody);
    try {
      return await this.ask(nobody, scope, send, signal);
    } catch (error) {
      if (!isCoded(error, 'UPSTREAM_DENIED')) throw error;
      const { upstream } = this.#deps;
      throw new CodedError('BACKEND_DOWN', {
        message: `${url.host}, where upstream ${upstream} leads, lets nobody in without an account: ${error.message}`,
        detail: { upstream, host: url.host, status: 401, reason: DENIED_ELSEWHERE },
        cause: error,
      });
    }
  }

  /** What to try once more with, where an answer may be the fault of what was sent, or of nothing being sent. */
  async #afresh(
    as: Authorizer,
    scope: string,
    sent: string | undefined,
    { status, headers }: Answer,
    signal: AbortSignal,
  ): Promise<string | undefined> {
    const challenge = headers['www-authenticate'];
    const isHidden = sent === undefined && as.isSomebody && hides(status);
    const isUntold =
      sent === undefined && status === 401 && this.asked(challenge) === undefined && !this.#strangers.has(as);
    try {
      if (isHidden || isUntold) {
        const base = await this.#baseChallenge(signal);
        if (base !== undefined) return await as.afterRefusal(scope, sent, base, signal, true);
      }
      if (status === 401) return await as.afterRefusal(scope, sent, challenge, signal);
      if (status === 404) as.refused(scope, sent, true);
      if (status !== 403 && !isTokenUnread(status, sent)) return undefined;
      const fresh = await renewed(as, scope, sent, signal);
      if (fresh === undefined && status === 403) as.refused(scope, sent);
      return fresh;
    } catch (error) {
      throwIfBug(error);
      // What it said of the item counts where nothing new is to be had; what a stranger was told does not, while nobody can log in.
      if (signal.aborted || !isCoded(error) || !hides(status) || (isHidden && mayPass(error))) throw error;
      return undefined;
    }
  }

  /**
   * What `/v2/` asks for, as clients ask it first: some registries say it nowhere else, and hide from strangers that there is
   * something to log in for.
   */
  async #baseChallenge(signal: AbortSignal): Promise<string | readonly string[] | undefined> {
    if (this.#deps.nowMs() < this.#unaskedUntilMs) return undefined;
    return await this.#asking.share('', async () => await this.#askBase(), signal);
  }

  async #askBase(): Promise<string | readonly string[] | undefined> {
    const { base, sockets, nowMs } = this.#deps;
    const { timeoutMs, userAgent } = this.#options;
    const url = apiUrl(base, '');
    const headers = { 'accept-encoding': 'identity', 'user-agent': userAgent };
    const dispatcher = sockets.for(url, 'redirect');
    const deps = { dispatcher, gate: this.#gate, headersTimeoutMs: timeoutMs, bodyTimeoutMs: timeoutMs };
    const call = { url, method: 'GET', headers } as const;
    const answer = await exchangeSmall(deps, call, AbortSignal.timeout(timeoutMs * 2)).catch(
      (error: unknown) => {
        throwIfBug(error);
        throw isCoded(error) ? error : down(url, error);
      },
    );
    discard(answer);
    const { status } = answer;
    const challenge = answer.headers['www-authenticate'];
    if (status === 401 && this.asked(challenge) !== undefined) return challenge;
    if (BUSY.includes(status))
      throw new CodedError('BACKEND_DOWN', {
        message: `${url.host} answers ${status} to who asks how to log in`,
        detail: { host: url.host, status },
      });
    this.#unaskedUntilMs = nowMs() + NO_CHALLENGE_MS;
    return undefined;
  }

  /** True where a 401 leads to the token service that has just failed: it is not asked twice. */
  #isStill(before: UpstreamChallenge | undefined, answer: Answer): boolean {
    const now = bearerOf(parseChallenges(answer.headers['www-authenticate']));
    return before?.scheme === 'bearer' && before.realm === now?.realm && before.service === now.service;
  }

  #tokenDeps() {
    const { upstream, nowMs } = this.#deps;
    return {
      upstream,
      nowMs,
      timeoutMs: this.#options.timeoutMs,
      send: (url: URL, shown: Shown, signal: AbortSignal) => this.#sendToken(url, shown, signal),
    };
  }

  async #sendToken(first: URL, { authorization, form }: Shown, signal: AbortSignal): Promise<Answer> {
    const { sockets, insecure, upstream } = this.#deps;
    const { timeoutMs, userAgent } = this.#options;
    return await follow(
      { name: `token service ${first.host}`, upstream, first, home: first, allowPlain: insecure },
      async (url, mayShow) => {
        if (form !== undefined && !mayShow)
          throw this.#denied(
            `the token service ${first.host} leads to ${url.host}; no identity token is shown there`,
          );
        const isShown = authorization !== undefined && mayShow;
        const headers = {
          accept: 'application/json',
          'accept-encoding': 'identity',
          'user-agent': userAgent,
          ...(isShown ? { authorization } : {}),
          ...(form === undefined ? {} : { 'content-type': 'application/x-www-form-urlencoded' }),
        };
        const deps = {
          dispatcher: sockets.for(url, 'realm'),
          gate: this.#gate,
          headersTimeoutMs: timeoutMs,
          bodyTimeoutMs: timeoutMs,
        };
        const call = { url, headers, once: isShown || form !== undefined };
        return form === undefined
          ? await exchangeSmall(deps, { ...call, method: 'GET' }, signal)
          : await exchangeSmall(
              deps,
              { ...call, method: 'POST', body: Buffer.from(form.toString()) },
              signal,
            );
      },
    );
  }

  #mayBear(realm: URL): boolean {
    const { sockets, upstream, log } = this.#deps;
    const isAllowed = mayBear(sockets.placeOf(realm, 'realm'));
    if (!isAllowed && !this.#warned.has(realm.host)) {
      this.#warned.set(realm.host, true);
      log.warn(
        { upstream, realm: realm.host },
        'token service is neither on the host nor in the domain of its registry: asked without credentials (list it in realm-hosts to show them)',
      );
    }
    return isAllowed;
  }

  #objection(realm: string): CodedError | undefined {
    const { base, insecure, upstream } = this.#deps;
    const url = new URL(realm);
    if (url.username !== '' || url.password !== '')
      return this.#denied(`the token service that upstream ${upstream} names has an account in its address`);
    if (base.protocol === 'http:' || insecure || url.protocol === 'https:') return undefined;
    return this.#denied(
      `the token service ${url.host} of upstream ${upstream} is not https; not asked (set insecure to allow it)`,
    );
  }

  #denied(message: string): CodedError {
    return new CodedError('UPSTREAM_DENIED', {
      message,
      detail: { upstream: this.#deps.upstream, status: 401, reason: NOT_SHOWN },
    });
  }
}

/** True for what a registry may say of a private item to those who showed nothing. */
function hides(status: number): boolean {
  return status === 403 || status === 404;
}

/** True where nobody can log in at the moment: that says nothing of who may read. */
function mayPass(error: CodedError): boolean {
  return error.code === 'BACKEND_DOWN' || error.code === 'UPSTREAM_LIMITED';
}

/** Some registries answer 400 to a token that has expired, as they would to other requests that they cannot read. */
function isTokenUnread(status: number, sent: string | undefined): boolean {
  return status === 400 && isToken(sent);
}

function isToken(sent: string | undefined): boolean {
  return sent?.startsWith('Bearer ') === true;
}

/** The header of a new token where the one that was sent is old enough to be the reason, or of a new password. */
async function renewed(
  as: Authorizer,
  scope: string,
  sent: string | undefined,
  signal: AbortSignal,
): Promise<string | undefined> {
  as.refused(scope, sent, isToken(sent));
  const fresh = await as.header(scope, signal);
  return fresh === sent ? undefined : fresh;
}
