import { CodedError } from '@sepia/base/errors';
import type { AccessChallenge } from '@sepia/cluster/api/access';
import { isByClusterKey } from '@sepia/http/tls/cluster-encryption';
import type { Context } from 'koa';

const HOST = /^(?:\[[0-9a-f:.]+\]|[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?)(?::\d{1,5})?$/i;

/**
 * Where clients of this listener reach it: `publicUrl`, else the host that the request names, by the scheme of its own
 * socket. `X-Forwarded-*` and the like are never looked at: who can set them could send passwords elsewhere.
 * @throws {CodedError} `REQUEST_INVALID` for a Host that is none
 */
export function publicBase(ctx: Context, publicUrl: string | undefined): string {
  if (publicUrl !== undefined) return publicUrl.replace(/\/$/, '');
  const host = ctx.get('host');
  if (!HOST.test(host))
    throw new CodedError('REQUEST_INVALID', { message: 'Host is not a host name with port' });
  const { socket } = ctx.req;
  const isHttps = (socket as { encrypted?: boolean }).encrypted === true && !isByClusterKey(socket);
  return `${isHttps ? 'https' : 'http'}://${host.toLowerCase()}`;
}

interface ChallengeParts {
  readonly base: string;
  readonly challenge: AccessChallenge;
  /** Upstream that tokens are for; it goes along in the realm, so that scopes need not tell. */
  readonly upstream: string | undefined;
  /** RFC 6750: what was wrong with the token that came. */
  readonly error?: 'invalid_token' | 'insufficient_scope' | undefined;
}

/** Value of `WWW-Authenticate`, by which a client learns where to get a token for what, or that it is to send Basic. */
export function challengeText({ base, challenge, upstream, error }: ChallengeParts): string {
  if (challenge.scheme === 'basic') return `Basic realm="${quoted(upstream ?? 'sepia')}"`;
  const query = upstream === undefined ? '' : `?ns=${encodeURIComponent(upstream)}`;
  const parts = [
    `realm="${base}/token${query}"`,
    ...(challenge.service === undefined ? [] : [`service="${quoted(challenge.service)}"`]),
    ...(challenge.scope === undefined ? [] : [`scope="${quoted(challenge.scope)}"`]),
    ...(error === undefined ? [] : [`error="${error}"`]),
  ];
  return `Bearer ${parts.join(',')}`;
}

/** What may stand between quotes of a header. */
function quoted(text: string): string {
  return text.replaceAll(/[^\x20-\x7e]/g, '').replaceAll(/["\\]/g, '\\$&');
}
