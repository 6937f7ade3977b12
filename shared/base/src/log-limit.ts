import { LatestMap } from './latest-map.ts';

interface LogLimitOptions {
  /** A key has one line in this time, in ms. */
  readonly everyMs: number;
  /** Lines of all keys together in that time. */
  readonly lines: number;
}

const MAX_KEYS = 1_000;

/** Keeps a line that others can cause from filling the log: one a key, and so many in all, in a while. */
export class LogLimit {
  readonly #options: LogLimitOptions;
  readonly #lastMs = new LatestMap<string, number>(MAX_KEYS);
  #beganMs = Number.NEGATIVE_INFINITY;
  #lines = 0;
  #unsaid = 0;

  constructor(options: LogLimitOptions) {
    this.#options = { ...options };
  }

  /** How many lines were left out since the last one, to be said in this one; undefined: this one is left out too. */
  take(key: string, nowMs: number): number | undefined {
    const { everyMs, lines } = this.#options;
    if (nowMs - this.#beganMs >= everyMs) {
      this.#beganMs = nowMs;
      this.#lines = 0;
    }
    const isSaid = nowMs - (this.#lastMs.get(key) ?? Number.NEGATIVE_INFINITY) < everyMs;
    if (isSaid || this.#lines >= lines) {
      this.#unsaid += 1;
      return undefined;
    }
    this.#lastMs.set(key, nowMs);
    this.#lines += 1;
    const unsaid = this.#unsaid;
    this.#unsaid = 0;
    return unsaid;
  }
}
