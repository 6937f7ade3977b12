import type Router from '@koa/router';
import { CodedError } from '@sepia/base/errors';
import { LAZY_ANSWER, LAZY_COMPLAINT } from '@sepia/cluster/api/lazy-offers';
import { routed } from '@sepia/http/router';
import { queryValue, readJson } from '@sepia/http/signed';
import type { Context } from 'koa';
import type { z } from 'zod';
import type { LazyImages } from './lazy-images.ts';
import type { Offers } from './offers.ts';

const MAX_WAIT_MS = 25_000;
const MAX_BODY_BYTES = 16 * 1024;

/**
 * For the snapshotter of this node, whose calls are signed with the node's secret.
 *
 * `GET /v1/lazy/offers?wait=<ms>` → images that wait · `POST /v1/lazy/offers/<id>` `{isShown, refusal?}` ·
 * `POST /v1/lazy/complaints` `{upstream, repository, layer, index, reason}`
 */
export function lazyRoutes(router: Router, offers: Offers, images: Pick<LazyImages, 'complain'>): void {
  router.get('/v1/lazy/offers', async (context) => {
    const ctx = routed(context, 'lazy-offers');
    const gone = new AbortController();
    ctx.res.once('close', () => gone.abort(new CodedError('TIMEOUT', { message: 'client is gone' })));
    const waitMs = Math.min(MAX_WAIT_MS, Number(queryValue(ctx, 'wait') ?? 0) || 0);
    ctx.body = { offers: await offers.next(waitMs, gone.signal) };
  });
  router.post('/v1/lazy/offers/:id', async (context) => {
    const ctx = routed(context, 'lazy-answer');
    offers.answer(String(context.params['id']), await jsonOf(ctx, LAZY_ANSWER));
    ctx.body = {};
  });
  router.post('/v1/lazy/complaints', async (context) => {
    const ctx = routed(context, 'lazy-complaint');
    await images.complain(await jsonOf(ctx, LAZY_COMPLAINT));
    ctx.body = {};
  });
}

async function jsonOf<T extends z.ZodType>(ctx: Context, schema: T): Promise<z.output<T>> {
  return await readJson(ctx, MAX_BODY_BYTES, (value) => {
    const checked = schema.safeParse(value);
    if (checked.success) return checked.data;
    const [issue] = checked.error.issues;
    throw new CodedError('REQUEST_INVALID', { message: `lazy: ${issue?.path.join('.')} ${issue?.message}` });
  });
}
