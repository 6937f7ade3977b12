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
 * So many at once, first come, first served. A slot that is given back passes to the first waiter without becoming free in
 * between; a waiter that leaves, by its signal or because it waited too long, is passed over.
 */
export class Slots {
  readonly #options: SlotsOptions;
  readonly #waiters = new Set<() => void>();
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
  async acquire(signal?: AbortSignal): Promise<() => void> {
    signal?.throwIfAborted();
    const free = this.take();
    if (free !== undefined) return free;
    await this.#wait(signal);
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
      const [first] = this.#waiters;
      if (first === undefined) this.#held -= 1;
      else first();
    };
  }

  async #wait(signal: AbortSignal | undefined): Promise<void> {
    const { limits } = this.#options;
    if (limits !== undefined && this.#waiters.size >= limits.queueLimit) throw limits.refusal('full');
    await new Promise<void>((resolve, reject) => {
      const leave = (): void => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', onAbort);
        this.#waiters.delete(grant);
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
      this.#waiters.add(grant);
      signal?.addEventListener('abort', onAbort, { once: true });
    });
  }
}

/** Waits for all, also where one fails, so that nothing works on behind the caller's back. @throws the first failure */
export async function settleAll<T>(tasks: readonly Promise<T>[]): Promise<T[]> {
  await Promise.allSettled(tasks);
  return await Promise.all(tasks);
}
