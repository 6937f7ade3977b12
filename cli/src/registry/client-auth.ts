import { silentLogger } from '@sepia/base/log';
import type { ProxyAddress } from '@sepia/http/sockets';
import type { Authenticator } from '@sepia/upstream/authenticator';
import { Authority } from '@sepia/upstream/authority';
import type { CredentialSource, Credentials } from '@sepia/upstream/credentials/source';
import { socketsOf } from '@sepia/upstream/transport';
import { TOKEN_CONNECT_MS, TOKEN_MS } from '../deadlines.ts';

/**
 * The `Authorization` of a client of one registry: anonymous until challenged, then Basic or a token for the scope
 * (OCI clients' way). Who may see the credentials is decided as for every other client of registries.
 */
export function clientAuth(options: {
  readonly url: string;
  readonly credentials: CredentialSource | undefined;
  /** The HTTP proxy for a URL; without it token services are asked straight. */
  readonly proxyFor?: ((url: URL) => ProxyAddress | undefined) | undefined;
}): Authenticator {
  const base = new URL(options.url);
  const access = {
    upstream: base.host,
    home: { base, redirectHosts: [], realmHosts: [] },
    credentials: options.credentials,
    insecure: false,
    proxyFor: options.proxyFor,
  };
  const sockets = socketsOf(access, { connections: 2, connectTimeoutMs: TOKEN_CONNECT_MS });
  const nowMs = (): number => Date.now();
  const authority = new Authority(
    { ...access, base, sockets, log: silentLogger(), nowMs },
    { timeoutMs: TOKEN_MS, queueLimit: 100, userAgent: 'sepia' },
  );
  return authority.authorizer(access.credentials);
}

/** Scope of requests for a repository (docker distribution token spec). */
export function scopeOf(repository: string, method: string): string {
  const actions = method === 'GET' || method === 'HEAD' ? 'pull' : 'pull,push';
  return `repository:${repository}:${actions}`;
}

/** What is wrong where a token service refused an account. */
export function refusedText({ username, isIdentityToken }: Credentials): string {
  return isIdentityToken === true
    ? 'the identity token of docker login is not taken; log in again, or give --user and --password-file'
    : `user or password is wrong for ${username}`;
}
