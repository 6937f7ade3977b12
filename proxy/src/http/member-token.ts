import { parseBasic } from '@sepia/shared/access/authorization';
import { CodedError } from '@sepia/shared/errors';
import type { RequestState } from '@sepia/shared/http/app';
import { queryValue, readJson } from '@sepia/shared/http/signed';
import { TOKEN_REQUEST } from '@sepia/shared/wire/access';
import { H_CLIENT_AUTH } from '@sepia/shared/wire/headers';
import type { Context } from 'koa';
import type { Logins } from '../net/logins.ts';

const MAX_BYTES = 128 * 1024;

/** `GET /v1/accounts?name=`: whether a name is the cluster's own, so that an agent passes no password of it on. */
export function memberAccounts(deps: {
  readonly logins: Logins;
  readonly verify: (ctx: Context) => void;
}): (ctx: Context) => void {
  return (ctx) => {
    (ctx.state as RequestState).route = 'member-accounts';
    deps.verify(ctx);
    const name = queryValue(ctx, 'name');
    if (name === undefined) throw new CodedError('REQUEST_INVALID', { message: 'query name is missing' });
    ctx.body = { isOwn: deps.logins.isOwn(name) };
  };
}

/** `POST /v1/token`: an agent passes on the login of one of its clients. */
export function memberToken(deps: {
  readonly logins: Logins;
  readonly verify: (ctx: Context) => void;
}): (ctx: Context) => Promise<void> {
  return async (ctx) => {
    (ctx.state as RequestState).route = 'member-token';
    deps.verify(ctx);
    if (ctx.method !== 'POST')
      throw new CodedError('METHOD_UNSUPPORTED', { detail: { method: ctx.method, allow: ['POST'] } });
    const request = await readJson(ctx, MAX_BYTES, (value) => {
      const checked = TOKEN_REQUEST.safeParse(value);
      if (checked.success) return checked.data;
      throw new CodedError('REQUEST_INVALID', { message: `token: ${checked.error.issues[0]?.message}` });
    });
    const credentials = parseBasic(ctx.get(H_CLIENT_AUTH));
    if (credentials === undefined) throw new CodedError('AUTH_REQUIRED');
    const caller = (ctx.state as RequestState).caller ?? '';
    const address = `${caller}/${request.address}`.slice(0, 192);
    ctx.body = await deps.logins.login({ ...request, address }, credentials);
  };
}
