import { backoffMs } from '@sepia/base/async/backoff';
import { SingleFlight } from '@sepia/base/async/single-flight';
import { CodedError, isCoded } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { LatestMap } from '@sepia/base/latest-map';
import { readLimited } from '@sepia/http/client';
import type { BearerChallenge } from '@sepia/oci/www-authenticate';
import { objectOf } from './answer-facts.ts';
import { contentOf } from './content-coding.ts';
import { basic } from './credentials/basic.ts';
import { type CredentialSource, type Credentials, isSame } from './credentials/source.ts';
import { DENIED_MS, MOST_DENIED_MS, TOKEN_FRESH_MS } from './deadlines/upstreams.ts';
import { type Answer, discard } from './exchange.ts';
import { retryAfterOf } from './retry-after.ts';

const MAX_TOKEN_ANSWER_BYTES = 1024 * 1024;
const MAX_SCOPES = 4096;
/** Lifetime of a token whose answer names none, in seconds (docker distribution token spec). */
const DEFAULT_LIFETIME_SECONDS = 60;
const MAX_LIFETIME_SECONDS = 86_400;
/** A token is renewed when this share of its life is left, so that none expires on the way. */
const RENEW_SHARE = 0.2;

/** What a token service is shown of an account: nothing, a password, or a form with an identity token. */
export interface Shown {
  readonly authorization?: string | undefined;
  readonly form?: URLSearchParams | undefined;
}

interface TokenDeps {
  readonly upstream: string;
  /** False for a token service that must not see credentials: it is asked in nobody's name. */
  readonly mayBear: (realm: URL) => boolean;
  /** Sends one GET, or a POST of a form, following redirects; what is shown only goes to the host of `url`, and then once. */
  readonly send: (url: URL, shown: Shown, signal: AbortSignal) => Promise<Answer>;
  readonly nowMs: () => number;
  /** Longest time for one token, in ms. */
  readonly timeoutMs: number;
}

interface CacheDeps extends TokenDeps {
  readonly credentials: CredentialSource | undefined;
}

interface CachedToken {
  readonly token: string;
  readonly givenAtMs: number;
  readonly renewAtMs: number;
}

/** Credentials that a token service refused: others are worth a try at once. */
interface Denial {
  readonly error: CodedError;
  readonly untilMs: number;
  readonly credentials: Credentials;
  readonly count: number;
}

/** Tokens by token service and scope: fetched once for all that wait, kept until shortly before they expire or are refused. */
export class TokenCache {
  readonly #deps: CacheDeps;
  readonly #tokens = new LatestMap<string, CachedToken>(MAX_SCOPES);
  readonly #running = new SingleFlight<string, string>();
  readonly #denials = new LatestMap<string, Denial>(MAX_SCOPES);

  constructor(deps: CacheDeps) {
    this.#deps = deps;
  }

  /** A valid token for `scope`. @throws {CodedError} `UPSTREAM_DENIED`, `UPSTREAM_LIMITED`, `BACKEND_DOWN`; the signal's reason */
  async get(challenge: BearerChallenge, scope: string, signal: AbortSignal): Promise<string> {
    const key = keyOf(challenge, scope);
    const cached = this.#tokens.get(key);
    if (cached !== undefined && cached.renewAtMs > this.#deps.nowMs()) return cached.token;
    return await this.#running.share(key, async () => await this.#fetch(key, challenge, scope), signal);
  }

  /** Forgets a token that was refused; a newer one for the same scope stays. */
  drop(challenge: BearerChallenge, scope: string, refused: string): void {
    const key = keyOf(challenge, scope);
    if (this.#tokens.get(key)?.token === refused) this.#tokens.delete(key);
  }

  /** Forgets a token unless it was given a moment ago: rights may have been granted since. */
  dropOld(challenge: BearerChallenge, scope: string): void {
    const key = keyOf(challenge, scope);
    const cached = this.#tokens.get(key);
    if (cached !== undefined && this.#deps.nowMs() - cached.givenAtMs > TOKEN_FRESH_MS)
      this.#tokens.delete(key);
  }

  async #fetch(key: string, challenge: BearerChallenge, scope: string): Promise<string> {
    const { nowMs, credentials: source, mayBear } = this.#deps;
    const credentials = mayBear(new URL(challenge.realm)) ? await source?.current() : undefined;
    const denial = this.#denials.get(key);
    const isRepeat = denial !== undefined && isSame(denial.credentials, credentials);
    if (isRepeat && denial.untilMs > nowMs()) throw denial.error;
    const askedAtMs = nowMs();
    try {
      const { token, lifetimeSeconds } = await requestToken(this.#deps, challenge, [scope], credentials);
      const renewAtMs = askedAtMs + lifetimeSeconds * 1000 * (1 - RENEW_SHARE);
      this.#denials.delete(key);
      this.#tokens.set(key, { token, givenAtMs: askedAtMs, renewAtMs });
      return token;
    } catch (error) {
      if (isCoded(error, 'UPSTREAM_DENIED') && credentials !== undefined)
        this.#noteDenial(key, error, credentials, isRepeat ? denial.count : 0);
      throw error;
    }
  }

  #noteDenial(key: string, error: CodedError, credentials: Credentials, before: number): void {
    this.#deps.credentials?.refused(credentials);
    const untilMs = this.#deps.nowMs() + backoffMs(before + 1, DENIED_MS, MOST_DENIED_MS);
    this.#denials.set(key, { error, untilMs, credentials, count: before + 1 });
  }
}

function keyOf({ realm, service }: BearerChallenge, scope: string): string {
  return [realm, service ?? '', scope].join('\n');
}

/** A token as a token service gave it, and for how long, in seconds. */
export interface GivenAnswer {
  readonly token: string;
  readonly lifetimeSeconds: number;
}

/** Fetches one token from the realm of a challenge, in one try. @throws {CodedError} `UPSTREAM_DENIED`, `UPSTREAM_LIMITED`, `BACKEND_DOWN` */
export async function requestToken(
  deps: Pick<TokenDeps, 'upstream' | 'send' | 'nowMs' | 'timeoutMs'>,
  challenge: BearerChallenge,
  scopes: readonly string[],
  credentials: Credentials | undefined,
): Promise<GivenAnswer> {
  const { timeoutMs } = deps;
  const { url, shown } = questionOf(challenge, scopes, credentials);
  const late = AbortSignal.timeout(timeoutMs);
  let answer: Answer;
  try {
    answer = await deps.send(url, shown, late);
  } catch (error) {
    throwIfBug(error);
    if (isCoded(error) || !late.aborted) throw error;
    throw new CodedError('BACKEND_DOWN', {
      message: `token of ${url.host} did not come within ${timeoutMs} ms`,
      detail: { host: url.host },
      cause: error,
    });
  }
  if (answer.status < 200 || answer.status > 299) throw refusalOf(deps, answer, scopes.join(' '));
  return readToken(await tokenAnswer(answer), url);
}

/** The two ways to ask for a token (distribution's token and OAuth 2 specifications). */
function questionOf(
  { realm, service }: BearerChallenge,
  scopes: readonly string[],
  credentials: Credentials | undefined,
): { url: URL; shown: Shown } {
  const url = new URL(realm);
  const each = [...new Set(scopes.flatMap((some) => some.split(' ')))].filter((scope) => scope !== '');
  if (credentials?.isIdentityToken === true) {
    const form = new URLSearchParams({ grant_type: 'refresh_token', client_id: 'sepia' });
    if (service !== undefined) form.set('service', service);
    form.set('scope', each.join(' '));
    form.set('refresh_token', credentials.password);
    return { url, shown: { form } };
  }
  if (credentials !== undefined) url.searchParams.set('account', credentials.username);
  if (service !== undefined) url.searchParams.set('service', service);
  // Of several in one text, as challenges name them, some services read none.
  for (const scope of each) url.searchParams.append('scope', scope);
  return { url, shown: credentials === undefined ? {} : { authorization: basic(credentials) } };
}

function refusalOf(deps: Pick<TokenDeps, 'upstream' | 'nowMs'>, answer: Answer, scope: string): CodedError {
  discard(answer);
  const { status, url } = answer;
  const detail = { upstream: deps.upstream, host: url.host, status, scope };
  if (status === 429) {
    const retryAfter = retryAfterOf(answer, deps.nowMs()) ?? 1;
    return new CodedError('UPSTREAM_LIMITED', {
      message: `token service ${url.host} limits the request rate`,
      detail: { ...detail, retryAfterSeconds: Math.max(1, retryAfter) },
    });
  }
  // Only a clear no is a refusal: a service that is not there any more says nothing of the account.
  const code = status === 400 || status === 401 || status === 403 ? 'UPSTREAM_DENIED' : 'BACKEND_DOWN';
  return new CodedError(code, { message: `token service ${url.host} answered ${status}`, detail });
}

async function tokenAnswer(answer: Answer): Promise<Buffer> {
  try {
    return await readLimited(contentOf(answer), MAX_TOKEN_ANSWER_BYTES, answer.url.host);
  } catch (cause) {
    throwIfBug(cause);
    throw new CodedError('BACKEND_DOWN', {
      message: `token answer of ${answer.url.host} was cut or is too large`,
      detail: { host: answer.url.host },
      cause,
    });
  }
}

function readToken(bytes: Buffer, url: URL): GivenAnswer {
  const fields = objectOf(bytes) ?? {};
  const token = [fields['token'], fields['access_token']].find(
    (one) => typeof one === 'string' && /^[\x21-\x7e]{1,100000}$/.test(one),
  );
  if (typeof token !== 'string')
    throw new CodedError('BACKEND_DOWN', {
      message: `token service ${url.host} sent no token`,
      detail: { host: url.host },
    });
  const seconds = fields['expires_in'];
  const known = typeof seconds === 'number' && Number.isFinite(seconds) && seconds > 0;
  return {
    token,
    lifetimeSeconds: known ? Math.min(seconds, MAX_LIFETIME_SECONDS) : DEFAULT_LIFETIME_SECONDS,
  };
}
