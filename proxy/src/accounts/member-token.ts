import type Router from '@koa/router';
import { CodedError } from '@sepia/base/errors';
import { TOKEN_REQUEST } from '@sepia/cluster/api/access';
import { H_CLIENT_AUTH } from '@sepia/cluster/api/headers';
import { parseBasic } from '@sepia/face/access/authorization';
import type { RequestState } from '@sepia/http/app';
import { routed } from '@sepia/http/router';
import { queryValue, readJson } from '@sepia/http/signed';
import type { Logins } from './logins.ts';

const MAX_BYTES = 128 * 1024;

/**
 * Routes by which agents ask about their clients. `GET /v1/accounts?name=`: whether a name is the cluster's own, so that
 * an agent passes no password of it on. `POST /v1/token`: the login of one of its clients.
 */
export function memberLoginRoutes(router: Router, logins: Logins): void {
  router.get('/v1/accounts', (context) => {
    const ctx = routed(context, 'member-accounts');
    const name = queryValue(ctx, 'name');
    if (name === undefined) throw new CodedError('REQUEST_INVALID', { message: 'query name is missing' });
    ctx.body = { isOwn: logins.isOwn(name) };
  });
  router.post('/v1/token', async (context) => {
    const ctx = routed(context, 'member-token');
    const request = await readJson(ctx, MAX_BYTES, (value) => {
      const checked = TOKEN_REQUEST.safeParse(value);
      if (checked.success) return checked.data;
      throw new CodedError('REQUEST_INVALID', { message: `token: ${checked.error.issues[0]?.message}` });
    });
    const credentials = parseBasic(ctx.get(H_CLIENT_AUTH));
    if (credentials === undefined) throw new CodedError('AUTH_REQUIRED');
    const caller = (ctx.state as RequestState).caller ?? '';
    const address = `${caller}/${request.address}`.slice(0, 192);
    ctx.body = await logins.login({ ...request, address }, credentials);
  });
}
