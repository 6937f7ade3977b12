import type Router from '@koa/router';
import { CodedError } from '@sepia/base/errors';
import { type AccessItem, TOKEN_REQUEST } from '@sepia/cluster/api/access';
import { H_UPSTREAM_AUTHORIZATION } from '@sepia/cluster/api/headers';
import { ORIGIN_RECORDS } from '@sepia/cluster/api/origin';
import { shardKey } from '@sepia/cluster/cluster';
import { fits } from '@sepia/cluster/message';
import { parseBasic } from '@sepia/face/access/authorization';
import { goneSignal } from '@sepia/http/client-gone';
import { serve } from '@sepia/http/router';
import { queryValue, readJson } from '@sepia/http/signed';
import type { Context } from 'koa';
import type { Access } from '../access/access.ts';
import { MAX_LENT } from '../access/names-to-fetch-with.ts';
import type { Sessions } from '../access/sessions.ts';
import { repositoryOf, required } from './request.ts';

/** Access routes of `/v1`: may this client read that, a token for it, credentials to fetch with. */
export function accessRoutes(
  router: Router,
  deps: { readonly access: Access; readonly sessions: Sessions },
): void {
  serve(router, ORIGIN_RECORDS.access, async (ctx) => {
    if (queryValue(ctx, 'repository') === undefined) {
      ctx.body = await deps.access.base(required(ctx, 'upstream'));
      return;
    }
    const given = ctx.get(H_UPSTREAM_AUTHORIZATION);
    const authorization = given === '' ? undefined : given;
    ctx.body = await deps.access.check(repositoryOf(ctx), itemOf(ctx), authorization, goneSignal(ctx));
  });
  serve(router, ORIGIN_RECORDS.lend, (ctx) => {
    const { upstream, repository } = repositoryOf(ctx);
    const known = deps.sessions.of(shardKey(upstream, repository)).slice(0, MAX_LENT);
    ctx.body = { authorizations: known.map(({ authorization }) => authorization) };
  });
  serve(router, ORIGIN_RECORDS.token, async (ctx) => {
    const request = await readJson(ctx, ORIGIN_RECORDS.token.body.maxBytes, fits(TOKEN_REQUEST, 'token'));
    const credentials = parseBasic(ctx.get(H_UPSTREAM_AUTHORIZATION));
    if (credentials === undefined) throw new CodedError('AUTH_REQUIRED');
    ctx.body = await deps.access.token(request.upstream, request.scopes, credentials);
  });
}

function itemOf(ctx: Context): AccessItem {
  const reference = queryValue(ctx, 'reference');
  if (reference !== undefined) return { kind: 'manifest', reference };
  const digest = queryValue(ctx, 'digest');
  return digest === undefined ? { kind: 'repository' } : { kind: 'blob', digest };
}
