import { CodedError } from '@sepia/base/errors';
import { delay } from '@sepia/base/lifecycle';
import { addressOf } from '@sepia/face/door/client-facts';
import type { Context } from 'koa';
import { clientSignal } from './answers.ts';
import { RateLimit } from './core/rate-limit.ts';

/** A request waits this long at most for its turn, in ms. */
const MAX_WAIT_MS = 5_000;
const MAX_ADDRESSES = 20_000;

/** For `createRegistryApp`'s `admit`: requests of one client address wait, then get 429 `OVERLOADED`. */
export function admitByRate(
  deps: { readonly nowMs: () => number },
  options: { readonly perSecond: number },
): (ctx: Context) => Promise<void> {
  const limit = new RateLimit({ ...options, maxWaitMs: MAX_WAIT_MS, maxKeys: MAX_ADDRESSES });
  return async (ctx) => {
    const found = limit.admit(addressOf(ctx), deps.nowMs());
    if (found.type === 'wait') await delay(found.waitMs, clientSignal(ctx));
    if (found.type === 'refuse')
      throw new CodedError('OVERLOADED', {
        message: 'too many requests from this address; try again later',
        detail: { requestsPerSecond: options.perSecond, retryAfterSeconds: found.retryAfterMs / 1_000 },
      });
  };
}
