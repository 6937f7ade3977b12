import { createRouter, routesOf } from '@sepia/http/router';
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
  const router = createRouter();
  for (const path of ['/announce', '/scrape']) {
    router.get(path, (ctx) => {
      ctx.type = 'text/plain';
      ctx.body = refusal;
    });
  }
  return routesOf(router);
}
