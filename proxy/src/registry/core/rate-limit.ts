import { LatestMap } from '@sepia/base/latest-map';

/** What becomes of a request: at once, after a wait, or not now. */
export type Admission =
  | { readonly type: 'go' }
  | { readonly type: 'wait'; readonly waitMs: number }
  | { readonly type: 'refuse'; readonly retryAfterMs: number };

interface RateLimitOptions {
  /** Requests per second of one key in the long run; 0: no limit. */
  readonly perSecond: number;
  /** A request that would have to wait longer is refused, in ms. */
  readonly maxWaitMs: number;
  /** Keys that are remembered; the one longest unseen is forgotten first. */
  readonly maxKeys: number;
}

/**
 * Requests per key as a leaky bucket of one second's worth (GCRA: one number a key, the time at which its bucket is
 * empty again). Short bursts wait instead of being refused: clients such as Harbor ignore Retry-After.
 */
export class RateLimit {
  readonly #options: RateLimitOptions;
  readonly #emptyAtMs: LatestMap<string, number>;

  constructor(options: RateLimitOptions) {
    this.#options = options;
    this.#emptyAtMs = new LatestMap(options.maxKeys);
  }

  get keys(): number {
    return this.#emptyAtMs.size;
  }

  admit(key: string, nowMs: number): Admission {
    const { perSecond, maxWaitMs } = this.#options;
    if (perSecond === 0) return { type: 'go' };
    const before = Math.max(nowMs, this.#emptyAtMs.get(key) ?? 0);
    const waitMs = Math.ceil(before - nowMs - 1_000);
    if (waitMs > maxWaitMs) return { type: 'refuse', retryAfterMs: waitMs };
    this.#emptyAtMs.set(key, before + 1_000 / perSecond);
    return waitMs > 0 ? { type: 'wait', waitMs } : { type: 'go' };
  }
}
