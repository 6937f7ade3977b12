import type Router from '@koa/router';
import { CodedError } from '@sepia/base/errors';
import { TOKEN_REQUEST } from '@sepia/cluster/api/access';
import { H_UPSTREAM_AUTHORIZATION } from '@sepia/cluster/api/headers';
import { PROXY } from '@sepia/cluster/api/proxy';
import { fits } from '@sepia/cluster/message';
import { parseBasic } from '@sepia/face/access/authorization';
import type { RequestState } from '@sepia/http/app';
import { serve } from '@sepia/http/router';
import { queryValue, readJson } from '@sepia/http/signed';
import type { Logins } from './logins.ts';

/**
 * Routes by which agents ask about their clients: whether a name is the cluster's own, so that an agent passes no password
 * of it on, and the login of one of its clients.
 */
export function memberLoginRoutes(router: Router, logins: Logins): void {
  serve(router, PROXY.accounts, (ctx) => {
    const name = queryValue(ctx, 'name');
    if (name === undefined) throw new CodedError('REQUEST_INVALID', { message: 'query name is missing' });
    ctx.body = { isOwn: logins.isOwn(name) };
  });
  serve(router, PROXY.token, async (ctx) => {
    const request = await readJson(ctx, PROXY.token.body.maxBytes, fits(TOKEN_REQUEST, 'token'));
    const credentials = parseBasic(ctx.get(H_UPSTREAM_AUTHORIZATION));
    if (credentials === undefined) throw new CodedError('AUTH_REQUIRED');
    const caller = (ctx.state as RequestState).caller ?? '';
    const address = `${caller}/${request.address}`.slice(0, 192);
    ctx.body = await logins.login({ ...request, address }, credentials);
  });
}
