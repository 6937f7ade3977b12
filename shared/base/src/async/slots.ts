import { boundedMs } from '../bounded-ms.ts';
import type { CodedError } from '../errors.ts';

interface SlotsOptions {
  /** Slots that may be held at once. */
  readonly slots: number;
  /** Most waiters, and the longest wait in ms; without them nobody is refused. */
  readonly limits?: {
    readonly queueLimit: number;
    readonly waitMs?: number;
    /** What one waiter too many, or one that waited too long, is told. */
    readonly refusal: (why: 'full' | 'late') => CodedError;
  };
}

/**
 * So many at once, first come, first served; where waiters name a lane, lanes take turns, and it is so within each. A slot that is
 * given back passes to the next waiter without becoming free in between; one that leaves, by its signal or too late, is passed over.
 */
export class Slots {
  readonly #options: SlotsOptions;
  /** Lanes with waiters; whose turn is next comes first. */
  readonly #lanes = new Map<string, Set<() => void>>();
  #waiting = 0;
  #held = 0;

  constructor(options: SlotsOptions) {
    this.#options = options;
  }

  get held(): number {
    return this.#held;
  }

  /** A slot, if one is free: what gives it back, to be called once or more. */
  take(): (() => void) | undefined {
    if (this.#held >= this.#options.slots) return undefined;
    this.#held += 1;
    return this.#release();
  }

  /** Resolves to what gives the slot back, to be called once or more. @throws the refusal; the signal's reason */
  async acquire(signal?: AbortSignal, lane = ''): Promise<() => void> {
    signal?.throwIfAborted();
    const free = this.take();
    if (free !== undefined) return free;
    await this.#wait(signal, lane);
    return this.#release();
  }

  /** Runs `task` in a slot, at once where one is free. */
  async run<T>(task: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    const release = this.take() ?? (await this.acquire(signal));
    try {
      return await task();
    } finally {
      release();
    }
  }

  #release(): () => void {
    let isReleased = false;
    return () => {
      if (isReleased) return;
      isReleased = true;
      const grant = this.#next();
      if (grant === undefined) this.#held -= 1;
      else grant();
    };
  }

  /** The first waiter of the lane whose turn it is; that lane is last then. */
  #next(): (() => void) | undefined {
    const [first] = this.#lanes;
    if (first === undefined) return undefined;
    const [lane, waiters] = first;
    this.#lanes.delete(lane);
    this.#lanes.set(lane, waiters);
    const [grant] = waiters;
    return grant;
  }

  async #wait(signal: AbortSignal | undefined, lane: string): Promise<void> {
    const { limits } = this.#options;
    if (limits !== undefined && this.#waiting >= limits.queueLimit) throw limits.refusal('full');
    await new Promise<void>((resolve, reject) => {
      const leave = (): void => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', onAbort);
        waiters.delete(grant);
        if (waiters.size === 0) this.#lanes.delete(lane);
        this.#waiting -= 1;
      };
      const onAbort = (): void => {
        leave();
        reject(signal?.reason);
      };
      const grant = (): void => {
        leave();
        resolve();
      };
      const onLate = (): void => {
        leave();
        reject(limits?.refusal('late'));
      };
      const timer = limits?.waitMs === undefined ? undefined : setTimeout(onLate, boundedMs(limits.waitMs));
      const waiters = this.#lanes.get(lane) ?? new Set<() => void>();
      this.#lanes.set(lane, waiters.add(grant));
      this.#waiting += 1;
      signal?.addEventListener('abort', onAbort, { once: true });
    });
  }
}

/** Waits for all, also where one fails, so that nothing works on behind the caller's back. @throws the first failure */
export async function settleAll<T>(tasks: readonly Promise<T>[]): Promise<T[]> {
  await Promise.allSettled(tasks);
  return await Promise.all(tasks);
}
