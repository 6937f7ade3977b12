import { CodedError } from '@sepia/base/errors';
import type { Logger } from '@sepia/base/log';
import { H_RECORDS } from '@sepia/cluster/api/headers';
import type { Middleware } from 'koa';
import type { EngineName } from '../records/record-engine.ts';

/**
 * Refuses origins that keep records in another engine: each side would acknowledge tags that the other never sees. Such
 * an origin does not count before its config is that of the others. Goes behind the gate, which checked the header.
 */
export function sameEngine(own: EngineName, log: Logger): Middleware {
  let isTold = false;
  return async (ctx, next) => {
    const theirs = ctx.get(H_RECORDS);
    if (theirs === '' || theirs === own) return await next();
    const message = `records.engine is ${own} here and ${theirs} at the origin that calls; it must be the same at all`;
    if (!isTold) log.error({ own, theirs }, message);
    isTold = true;
    throw new CodedError('RECORDS_PENDING', { message, detail: { own, theirs } });
  };
}
