import type Router from '@koa/router';
import { CodedError } from '@sepia/base/errors';
import { CONVERSION_CALLS } from '@sepia/cluster/api/conversions';
import { PROXY } from '@sepia/cluster/api/proxy';
import { serve } from '@sepia/http/router';
import type { Context } from 'koa';
import { jsonBody } from '../http/json-body.ts';
import type { Conversions } from './conversions.ts';

const BODY = { limitBytes: PROXY.conversionChange.body.maxBytes, what: 'conversions' };

/** The queue of conversions for accelerators and operators. */
export function conversionRoutes(router: Router, conversions: Conversions): void {
  const { queue } = conversions;
  serve(router, PROXY.conversions, async (ctx) => {
    ctx.body = { jobs: await queue.list() };
  });
  serve(router, PROXY.conversionAdd, async (ctx) => {
    const { task, isFound } = await jsonBody(ctx, CONVERSION_CALLS.add, BODY);
    ctx.body = await conversions.add(task, isFound);
  });
  serve(router, PROXY.conversionTake, async (ctx) => {
    const { holder, limit, kinds } = await jsonBody(ctx, CONVERSION_CALLS.take, BODY);
    ctx.body = { jobs: await queue.take(holder, limit, ({ kind }) => kinds?.includes(kind) !== false) };
  });
  serve(router, PROXY.conversionChange, async (ctx, { id, verb }) => {
    ctx.body = await change(ctx, queue, id, verb);
  });
}

async function change(ctx: Context, queue: Conversions['queue'], id: string, verb: string): Promise<object> {
  if (verb === 'renew') {
    const { holder, progress } = await jsonBody(ctx, CONVERSION_CALLS.renew, BODY);
    return { isHeld: await queue.renew(id, holder, progress) };
  }
  if (verb === 'finish') {
    const { holder, result } = await jsonBody(ctx, CONVERSION_CALLS.finish, BODY);
    await queue.finish(id, holder, result);
  } else if (verb === 'fail') {
    const { holder, error, isFinal } = await jsonBody(ctx, CONVERSION_CALLS.fail, BODY);
    await queue.fail(id, holder, error, isFinal);
  } else if (verb === 'release') {
    const { holder } = await jsonBody(ctx, CONVERSION_CALLS.release, BODY);
    await queue.release(id, holder);
  } else if (verb === 'cancel') await queue.cancel(id);
  else if (verb === 'retry') await queue.retry(id);
  else throw new CodedError('ROUTE_UNKNOWN', { detail: { path: ctx.path.slice(0, 300) } });
  return {};
}
