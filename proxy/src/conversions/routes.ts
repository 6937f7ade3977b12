import type Router from '@koa/router';
import { CodedError } from '@sepia/base/errors';
import { CONVERSION_CALLS, conversionKey } from '@sepia/cluster/api/conversions';
import { PROXY } from '@sepia/cluster/api/proxy';
import { serve } from '@sepia/http/router';
import { readJson } from '@sepia/http/signed';
import type { Context } from 'koa';
import type { z } from 'zod';
import type { Conversions } from './conversions.ts';

/** The queue of conversions for accelerators and operators. */
export function conversionRoutes(router: Router, { queue }: Conversions): void {
  serve(router, PROXY.conversions, async (ctx) => {
    ctx.body = { jobs: await queue.list() };
  });
  serve(router, PROXY.conversionAdd, async (ctx) => {
    const { task } = await bodyOf(ctx, CONVERSION_CALLS.add);
    ctx.body = await queue.add(conversionKey(task), task);
  });
  serve(router, PROXY.conversionTake, async (ctx) => {
    const { holder, limit } = await bodyOf(ctx, CONVERSION_CALLS.take);
    ctx.body = { jobs: await queue.take(holder, limit) };
  });
  serve(router, PROXY.conversionChange, async (ctx, { id, verb }) => {
    ctx.body = await change(ctx, queue, id, verb);
  });
}

async function change(ctx: Context, queue: Conversions['queue'], id: string, verb: string): Promise<object> {
  if (verb === 'renew') {
    const { holder, progress } = await bodyOf(ctx, CONVERSION_CALLS.renew);
    return { isHeld: await queue.renew(id, holder, progress) };
  }
  if (verb === 'finish') {
    const { holder, result } = await bodyOf(ctx, CONVERSION_CALLS.finish);
    await queue.finish(id, holder, result);
  } else if (verb === 'fail') {
    const { holder, error, isFinal } = await bodyOf(ctx, CONVERSION_CALLS.fail);
    await queue.fail(id, holder, error, isFinal);
  } else if (verb === 'release') {
    const { holder } = await bodyOf(ctx, CONVERSION_CALLS.release);
    await queue.release(id, holder);
  } else if (verb === 'cancel') await queue.cancel(id);
  else if (verb === 'retry') await queue.retry(id);
  else throw new CodedError('ROUTE_UNKNOWN', { detail: { path: ctx.path.slice(0, 300) } });
  return {};
}

async function bodyOf<T extends z.ZodType>(ctx: Context, schema: T): Promise<z.output<T>> {
  return await readJson(ctx, PROXY.conversionChange.body.maxBytes, (value) => {
    const checked = schema.safeParse(value);
    if (checked.success) return checked.data;
    const [issue] = checked.error.issues;
    throw new CodedError('REQUEST_INVALID', {
      message: `conversions: ${issue?.path.join('.')} ${issue?.message}`,
    });
  });
}
