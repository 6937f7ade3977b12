import { CodedError } from '@sepia/base/errors';
import { delay } from '@sepia/base/lifecycle';
import { hostOf } from '@sepia/base/names/host-of';
import { addressOf } from '@sepia/face/door/client-facts';
import { goneSignal } from '@sepia/http/client-gone';
import type { Context } from 'koa';
import { TURN_MS } from '../deadlines.ts';
import { RateLimit } from './core/rate-limit.ts';

const MAX_ADDRESSES = 20_000;

interface RateOptions {
  readonly perSecond: number;
}

/** Requests of one client address wait, then get 429 `OVERLOADED`. */
export class RateGate {
  readonly #nowMs: () => number;
  #limit: RateLimit;
  #options: RateOptions;

  constructor(deps: { readonly nowMs: () => number }, options: RateOptions) {
    this.#nowMs = deps.nowMs;
    this.#options = options;
    this.#limit = limitOf(options);
  }

  /** A new limit; what addresses did before it is forgotten. */
  adjust(options: RateOptions): void {
    if (options.perSecond === this.#options.perSecond) return;
    this.#options = options;
    this.#limit = limitOf(options);
  }

  /** For `createRegistryApp`'s `admit`. */
  readonly admit = async (ctx: Context): Promise<void> => {
    const found = this.#limit.admit(hostOf(addressOf(ctx)), this.#nowMs());
    if (found.type === 'wait') await delay(found.waitMs, goneSignal(ctx));
    if (found.type === 'refuse')
      throw new CodedError('OVERLOADED', {
        message: 'too many requests from this address; try again later',
        detail: {
          requestsPerSecond: this.#options.perSecond,
          retryAfterSeconds: found.retryAfterMs / 1_000,
        },
      });
  };
}

function limitOf({ perSecond }: RateOptions): RateLimit {
  return new RateLimit({ perSecond, maxWaitMs: TURN_MS, maxKeys: MAX_ADDRESSES });
}
