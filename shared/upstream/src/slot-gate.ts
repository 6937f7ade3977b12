import { Slots } from '@sepia/base/async/slots';
import { boundedMs } from '@sepia/base/bounded-ms';
import { CodedError } from '@sepia/base/errors';
import { TURN_QUEUE_MS } from './deadlines/upstreams.ts';

interface GateOptions {
  /** Slots that may be held at once. */
  readonly slots: number;
  /** Most waiters. */
  readonly queueLimit: number;
  /** Longest wait, in ms. */
  readonly waitMs: number;
}

/** Limits how many exchanges are open at once; who finds no slot in time gets `UPSTREAM_LIMITED`. */
export class SlotGate extends Slots {
  constructor({ slots, queueLimit, waitMs }: GateOptions) {
    super({ slots, limits: { queueLimit, waitMs, refusal: busy } });
  }
}

/** One slot in so many is left to small questions, as far as these are. */
const SMALL_SHARE = 8;
const MOST_SMALL = 4;

/** As {@link SlotGate}, for bodies: they last, and leave some of its slots to questions that are answered at once. */
export class BodyGate {
  readonly #all: SlotGate;
  readonly #bodies: SlotGate;

  /** `options`: of the gate for all, which `all` is. */
  constructor(all: SlotGate, options: GateOptions) {
    this.#all = all;
    const { slots } = options;
    this.#bodies = new SlotGate({
      ...options,
      slots: slots - Math.min(MOST_SMALL, Math.floor(slots / SMALL_SHARE)),
    });
  }

  /** As that of {@link SlotGate}. */
  async acquire(signal: AbortSignal, lane: string | undefined): Promise<() => void> {
    const release = await this.#bodies.acquire(signal, lane);
    try {
      const releaseAll = await this.#all.acquire(signal, lane);
      return () => {
        releaseAll();
        release();
      };
    } catch (error) {
      release();
      throw error;
    }
  }
}

/** Most requests that are sent at once, whatever the rate. */
const MOST_AT_ONCE = 100;

interface TurnOptions {
  readonly perSecond: number;
  /** Longest wait, in ms. */
  readonly waitMs: number;
  /** Whom the turns are for: in errors. */
  readonly upstream: string;
  readonly host: string;
}

/**
 * So many requests a second, and no more in any one: a turn is over when its share of the time is, not with its request. Who waits
 * and leaves took none; who finds the queue full, or waits too long, gets `UPSTREAM_LIMITED`.
 */
export class RequestTurns {
  readonly #slots: Slots;
  readonly #turnMs: number;

  constructor({ perSecond, waitMs, upstream, host }: TurnOptions) {
    const slots = Math.min(MOST_AT_ONCE, Math.ceil(perSecond));
    this.#turnMs = boundedMs((slots * 1_000) / perSecond);
    const queueLimit = Math.max(1, Math.floor((perSecond * TURN_QUEUE_MS) / 1_000));
    const retryAfterSeconds = Math.ceil(queueLimit / perSecond);
    const refusal = (): CodedError =>
      new CodedError('UPSTREAM_LIMITED', {
        message: `${host} was asked often enough (requests-per-second)`,
        detail: { upstream, retryAfterSeconds },
      });
    this.#slots = new Slots({ slots, limits: { queueLimit, waitMs, refusal } });
  }

  /** Waits until a request may be sent; lanes take turns. @throws `UPSTREAM_LIMITED`; the signal's reason */
  async take(signal: AbortSignal, lane: string): Promise<void> {
    const over = await this.#slots.acquire(signal, lane);
    setTimeout(over, this.#turnMs).unref();
  }
}

function busy(why: 'full' | 'late'): CodedError {
  const message =
    why === 'full'
      ? 'too many requests wait for a connection to the upstream'
      : 'no connection to the upstream became free';
  return new CodedError('UPSTREAM_LIMITED', {
    message: `${message} (max-connections)`,
    detail: { retryAfterSeconds: 1 },
  });
}
