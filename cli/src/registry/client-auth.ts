import { CodedError } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import type { Dispatcher } from '@sepia/http/sockets';
import { Authenticator } from '@sepia/upstream/authenticator';
import { type Credentials, TokenCache } from '@sepia/upstream/token';
import { request } from 'undici';

const TOKEN_TIMEOUT_MS = 30_000;

/**
 * The `Authorization` of a client of one registry: anonymous until challenged, then Basic or a token for the scope
 * (OCI clients' way). Credentials go to the registry's own host, or to a token service over TLS, and nowhere else.
 */
export function clientAuth(
  deps: { readonly dispatcher: Dispatcher },
  options: { readonly url: string; readonly credentials: Credentials | undefined },
): Authenticator {
  const { host } = new URL(options.url);
  const { credentials } = options;
  const tokens = new TokenCache({
    upstream: host,
    credentials,
    nowMs: () => Date.now(),
    timeoutMs: TOKEN_TIMEOUT_MS,
    send: async (url, authorization, signal) => {
      try {
        const { statusCode, headers, body } = await request(url, {
          dispatcher: deps.dispatcher,
          headers: { 'user-agent': 'sepia', ...(authorization === undefined ? {} : { authorization }) },
          signal,
        });
        return { url, method: 'GET', status: statusCode, headers, body };
      } catch (cause) {
        throwIfBug(cause);
        throw new CodedError('PEER_HTTP', { message: `token service ${url.host} does not answer`, cause });
      }
    },
  });
  const mayAsk = (realm: string): boolean => {
    const { protocol, host: asked } = new URL(realm);
    return credentials === undefined || asked === host || protocol === 'https:';
  };
  return new Authenticator({ credentials, tokens, mayAsk });
}

/** Scope of requests for a repository (docker distribution token spec). */
export function scopeOf(repository: string, method: string): string {
  const actions = method === 'GET' || method === 'HEAD' ? 'pull' : 'pull,push';
  return `repository:${repository}:${actions}`;
}
