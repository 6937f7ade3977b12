import { randomUUID } from 'node:crypto';
import { CodedError } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { News } from '@sepia/base/news';
import type { LazyAnswer, LazyOffer } from '@sepia/cluster/api/lazy-offers';
import { GAP_MS } from '../deadlines.ts';

const MAX_OFFERS = 100;

interface Waiting {
  readonly offer: LazyOffer;
  isTaken: boolean;
  settle(answer: LazyAnswer | undefined): void;
}

/** Images that wait for the node's snapshotter, which comes and asks: the agent needs not know where it is. */
export class Offers {
  readonly #nowMs: () => number;
  readonly #waiting = new Map<string, Waiting>();
  readonly #news = new News();
  #polls = 0;
  #lastPollMs = Number.NEGATIVE_INFINITY;

  constructor(deps: { readonly nowMs: () => number }) {
    this.#nowMs = deps.nowMs;
  }

  /** True while a snapshotter comes and asks. */
  get isServed(): boolean {
    return this.#polls > 0 || this.#nowMs() - this.#lastPollMs < GAP_MS;
  }

  /** What the snapshotter says of an image; undefined where it says nothing within `waitMs`, or is too busy. */
  async offer(image: Omit<LazyOffer, 'id' | 'waitMs'>, waitMs: number): Promise<LazyAnswer | undefined> {
    if (waitMs <= 0 || this.#waiting.size >= MAX_OFFERS) return undefined;
    const id = randomUUID();
    return await new Promise((resolve) => {
      const settle = (answer: LazyAnswer | undefined): void => {
        clearTimeout(timer);
        this.#waiting.delete(id);
        resolve(answer);
      };
      const timer = setTimeout(() => settle(undefined), waitMs);
      const offer = { ...image, id, waitMs: Math.floor(waitMs) };
      this.#waiting.set(id, { offer, isTaken: false, settle });
      this.#news.tell();
    });
  }

  /** Offers that nobody took yet; waits for one at most `waitMs`. */
  async next(waitMs: number, gone: AbortSignal): Promise<LazyOffer[]> {
    const late = AbortSignal.any([gone, AbortSignal.timeout(waitMs)]);
    this.#polls += 1;
    try {
      for (;;) {
        // Who left tells nobody of what it would be given.
        if (gone.aborted) return [];
        const free = [...this.#waiting.values()].filter((one) => !one.isTaken);
        for (const one of free) one.isTaken = true;
        if (free.length > 0 || late.aborted) return free.map((one) => one.offer);
        await this.#somethingNew(late);
      }
    } finally {
      this.#polls -= 1;
      this.#lastPollMs = this.#nowMs();
    }
  }

  /** @throws `COMMAND_UNKNOWN` where the image waits no longer */
  answer(id: string, answer: LazyAnswer): void {
    const waiting = this.#waiting.get(id);
    if (waiting === undefined)
      throw new CodedError('COMMAND_UNKNOWN', { message: 'this image does not wait any longer' });
    waiting.settle(answer);
  }

  /** Resolves when there is news, or when the wait is over. */
  async #somethingNew(late: AbortSignal): Promise<void> {
    try {
      await this.#news.next(late);
    } catch (error) {
      throwIfBug(error);
      if (!late.aborted) throw error;
    }
  }
}
