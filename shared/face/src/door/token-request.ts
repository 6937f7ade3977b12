import { CodedError } from '@sepia/base/errors';
import { readBody } from '@sepia/http/signed';
import type { Context } from 'koa';
import { type BasicCredentials, parseBasic } from '../access/authorization.ts';
import { splitScopes } from '../access/scope.ts';

const MAX_FORM_BYTES = 64 * 1024;

/** A request to `/token`, in either form. */
export interface AskedToken {
  readonly ns: string | undefined;
  readonly scopes: readonly string[];
  /** Undefined for somebody who does not log in. */
  readonly credentials: BasicCredentials | undefined;
}

/**
 * Reads GET with Basic (docker, podman, skopeo) or POST of the OAuth 2 password grant (containerd).
 * @throws {CodedError} `METHOD_UNSUPPORTED`, `REQUEST_INVALID`, `AUTH_REQUIRED` for an Authorization that is no Basic
 */
export async function readTokenRequest(ctx: Context): Promise<AskedToken> {
  const query = new URLSearchParams(ctx.querystring);
  const ns = query.get('ns') ?? undefined;
  if (ctx.method === 'GET') {
    const header = ctx.get('authorization');
    const credentials = parseBasic(header);
    if (header !== '' && credentials === undefined)
      throw new CodedError('AUTH_REQUIRED', { message: 'a token is given for user and password (Basic)' });
    return { ns, scopes: splitScopes(query.getAll('scope')), credentials };
  }
  if (ctx.method !== 'POST') {
    ctx.set('Allow', 'GET, POST');
    throw new CodedError('METHOD_UNSUPPORTED', { detail: { method: ctx.method, allow: ['GET', 'POST'] } });
  }
  const form = new URLSearchParams((await readBody(ctx, MAX_FORM_BYTES)).toString('utf8'));
  if (form.get('grant_type') !== 'password')
    throw new CodedError('REQUEST_INVALID', { message: 'grant_type must be password' });
  const [username, password] = [form.get('username') ?? '', form.get('password') ?? ''];
  return {
    ns,
    scopes: splitScopes(form.getAll('scope')),
    credentials: username === '' ? undefined : { username, password },
  };
}
