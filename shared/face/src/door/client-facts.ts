import type { ResolvedName } from '@sepia/base/names/upstream-name';
import type { RequestState } from '@sepia/http/app';
import type { Context } from 'koa';

/** Where a client comes from; see the listener key `trusted-proxies`. */
export function addressOf(ctx: Context): string {
  return (ctx.state as RequestState).address ?? ctx.req.socket.remoteAddress ?? '';
}

/** Who asked for what, as every audit line of a request says it. */
export function auditFacts(ctx: Context, target: ResolvedName) {
  const { requestId, account } = ctx.state as RequestState & { account?: string };
  const { upstream, repository } = target;
  return { account, address: addressOf(ctx), requestId, upstream, repository };
}
