import { CodedError } from '@sepia/base/errors';
import { readElsewhere, throwIfBug } from '@sepia/base/failure';
import { readLimited } from '@sepia/http/client';
import type { BearerChallenge } from '@sepia/oci/www-authenticate';
import { type Answer, discard, header } from './exchange.ts';
import { retryAfterSeconds } from './retry-after.ts';

const MAX_TOKEN_ANSWER_BYTES = 1024 * 1024;
const MAX_SCOPES = 4096;
/** Lifetime of a token whose answer names none, in seconds (docker distribution token spec). */
const DEFAULT_LIFETIME_SECONDS = 60;
const MAX_LIFETIME_SECONDS = 86_400;
/** A token is renewed when this share of its life is left, so that none expires on the way. */
const RENEW_SHARE = 0.2;

/** User and password of an upstream. */
export interface Credentials {
  readonly username: string;
  readonly password: string;
}

interface TokenDeps {
  readonly upstream: string;
  readonly credentials: Credentials | undefined;
  /** Sends one GET, following redirects; `authorization` only goes to the host of `url`. */
  readonly send: (url: URL, authorization: string | undefined, signal: AbortSignal) => Promise<Answer>;
  readonly nowMs: () => number;
  /** Longest time for one token, in ms. */
  readonly timeoutMs: number;
}

interface CachedToken {
  readonly token: string;
  readonly renewAtMs: number;
}

/** Tokens by scope: fetched once for all that wait, kept until shortly before they expire. */
export class TokenCache {
  readonly #deps: TokenDeps;
  /** Insertion order is age; the oldest goes first. */
  readonly #tokens = new Map<string, CachedToken>();
  readonly #running = new Map<string, Promise<string>>();

  constructor(deps: TokenDeps) {
    this.#deps = deps;
  }

  /** A valid token for `scope`. @throws {CodedError} `UPSTREAM_DENIED`, `UPSTREAM_LIMITED`, `BACKEND_DOWN`; the signal's reason */
  async get(challenge: BearerChallenge, scope: string, signal: AbortSignal): Promise<string> {
    const cached = this.#tokens.get(scope);
    if (cached !== undefined && cached.renewAtMs > this.#deps.nowMs()) return cached.token;
    let running = this.#running.get(scope);
    if (running === undefined) {
      running = this.#fetch(challenge, scope).finally(() => this.#running.delete(scope));
      readElsewhere(running);
      this.#running.set(scope, running);
    }
    return await abortable(running, signal);
  }

  /** Forgets a token that was refused; a newer one for the same scope stays. */
  drop(scope: string, refused: string): void {
    if (this.#tokens.get(scope)?.token === refused) this.#tokens.delete(scope);
  }

  async #fetch(challenge: BearerChallenge, scope: string): Promise<string> {
    const askedAtMs = this.#deps.nowMs();
    const { token, lifetimeSeconds } = await requestToken(
      this.#deps,
      challenge,
      [scope],
      this.#deps.credentials,
    );
    this.#tokens.delete(scope);
    this.#tokens.set(scope, { token, renewAtMs: askedAtMs + lifetimeSeconds * 1000 * (1 - RENEW_SHARE) });
    if (this.#tokens.size > MAX_SCOPES) this.#tokens.delete(this.#tokens.keys().next().value!);
    return token;
  }
}

/** A token as a token service gave it. */
export interface GivenAnswer {
  readonly token: string;
  readonly lifetimeSeconds: number;
}

/** Fetches one token from the realm of a challenge. @throws {CodedError} `UPSTREAM_DENIED`, `UPSTREAM_LIMITED`, `BACKEND_DOWN` */
export async function requestToken(
  deps: Omit<TokenDeps, 'credentials'>,
  challenge: BearerChallenge,
  scopes: readonly string[],
  credentials: Credentials | undefined,
): Promise<GivenAnswer> {
  const { timeoutMs } = deps;
  const url = new URL(challenge.realm);
  if (credentials !== undefined) url.searchParams.set('account', credentials.username);
  if (challenge.service !== undefined) url.searchParams.set('service', challenge.service);
  for (const scope of scopes) url.searchParams.append('scope', scope);
  const answer = await deps
    .send(url, credentials === undefined ? undefined : basic(credentials), AbortSignal.timeout(timeoutMs))
    .catch((error: unknown) => {
      throwIfBug(error);
      throw error instanceof CodedError
        ? error
        : new CodedError('BACKEND_DOWN', {
            message: `token of ${url.host} did not come within ${timeoutMs} ms`,
            detail: { host: url.host },
            cause: error,
          });
    });
  if (answer.status !== 200) throw refusalOf(deps, answer, scopes.join(' '));
  return readToken(await tokenAnswer(answer), url);
}

function refusalOf(deps: Pick<TokenDeps, 'upstream' | 'nowMs'>, answer: Answer, scope: string): CodedError {
  discard(answer);
  const { status, url } = answer;
  const detail = { upstream: deps.upstream, host: url.host, status, scope };
  if (status === 429) {
    const retryAfter = retryAfterSeconds(header(answer, 'retry-after'), deps.nowMs()) ?? 1;
    return new CodedError('UPSTREAM_LIMITED', {
      message: `token service ${url.host} limits the request rate`,
      detail: { ...detail, retryAfterSeconds: Math.max(1, retryAfter) },
    });
  }
  const code = status >= 400 && status < 500 && status !== 408 ? 'UPSTREAM_DENIED' : 'BACKEND_DOWN';
  return new CodedError(code, { message: `token service ${url.host} answered ${status}`, detail });
}

/** `Authorization` of Basic (RFC 7617, in UTF-8). */
export function basic(credentials: Credentials): string {
  return `Basic ${Buffer.from(`${credentials.username}:${credentials.password}`, 'utf8').toString('base64')}`;
}

async function tokenAnswer(answer: Answer): Promise<Buffer> {
  try {
    return await readLimited(answer.body, MAX_TOKEN_ANSWER_BYTES, answer.url.host);
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
  let value: unknown;
  try {
    value = JSON.parse(bytes.toString('utf8'));
  } catch (error) {
    throwIfBug(error);
    value = undefined;
  }
  const fields = (typeof value === 'object' && value !== null ? value : {}) as Record<string, unknown>;
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

async function abortable<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  let onAbort = (): void => undefined;
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => reject(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
  });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
