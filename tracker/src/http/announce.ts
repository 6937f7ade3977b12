import bencode from 'bencode';
import type { Middleware } from 'koa';

/**
 * `GET /announce` and `/scrape` (BEP 3): standard clients are refused by policy `strangers: never`, in the form
 * that they understand.
 */
export function announceRoutes(): Middleware {
  const refusal = Buffer.from(
    bencode.encode({ 'failure reason': 'strangers: never (this cluster serves its members only)' }),
  );
  return async (ctx, next) => {
    if (ctx.path !== '/announce' && ctx.path !== '/scrape') return await next();
    ctx.type = 'text/plain';
    ctx.body = refusal;
  };
}
