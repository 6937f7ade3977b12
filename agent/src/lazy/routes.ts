import type Router from '@koa/router';
import { boundedMs } from '@sepia/base/bounded-ms';
import { AGENT } from '@sepia/cluster/api/agent';
import { LAZY_ANSWER, LAZY_COMPLAINT } from '@sepia/cluster/api/lazy-offers';
import { LONG_POLL_MS } from '@sepia/cluster/deadlines';
import { fits } from '@sepia/cluster/message';
import { goneSignal } from '@sepia/http/client-gone';
import { serve } from '@sepia/http/router';
import { queryValue, readJson } from '@sepia/http/signed';
import type { Context } from 'koa';
import type { z } from 'zod';
import type { LazyImages } from './lazy-images.ts';
import type { Offers } from './offers.ts';

/** For the snapshotter of this node, whose calls are signed with the node's secret. */
export function lazyRoutes(
  router: Router,
  offers: Offers,
  images: Pick<LazyImages, 'complain' | 'served'>,
): void {
  serve(router, AGENT.offers, async (ctx) => {
    images.served();
    const waitMs = boundedMs(Number(queryValue(ctx, 'wait') ?? 0), 0, LONG_POLL_MS);
    ctx.body = { offers: await offers.next(waitMs, goneSignal(ctx)) };
  });
  serve(router, AGENT.offerAnswer, async (ctx, params) => {
    offers.answer(params.id, await jsonOf(ctx, LAZY_ANSWER));
    ctx.body = {};
  });
  serve(router, AGENT.complaint, async (ctx) => {
    await images.complain(await jsonOf(ctx, LAZY_COMPLAINT));
    ctx.body = {};
  });
}

async function jsonOf<T extends z.ZodType>(ctx: Context, schema: T): Promise<z.output<T>> {
  return await readJson(ctx, AGENT.complaint.body.maxBytes, fits(schema, 'lazy'));
}
