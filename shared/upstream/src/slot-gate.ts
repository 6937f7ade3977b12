import { CodedError } from '@sepia/base/errors';

interface GateOptions {
  /** Slots that may be held at once. */
  readonly slots: number;
  /** Most waiters. */
  readonly queueLimit: number;
  /** Longest wait, in ms. */
  readonly waitMs: number;
}

interface Waiter {
  readonly grant: () => void;
}

/** Limits how many exchanges are open at once; first come, first served. */
export class SlotGate {
  readonly #options: GateOptions;
  readonly #waiters = new Set<Waiter>();
  #held = 0;

  constructor(options: GateOptions) {
    this.#options = options;
  }

  get held(): number {
    return this.#held;
  }

  /** Resolves to a release function, to be called once or more. @throws {CodedError} `UPSTREAM_LIMITED`; the signal's reason */
  async acquire(signal: AbortSignal): Promise<() => void> {
    signal.throwIfAborted();
    if (this.#held < this.#options.slots) this.#held += 1;
    else await this.#wait(signal);
    let released = false;
    return () => {
      if (released) return;
      released = true;
      this.#release();
    };
  }

  async #wait(signal: AbortSignal): Promise<void> {
    if (this.#waiters.size >= this.#options.queueLimit)
      throw busy('too many requests wait for a connection to the upstream');
    await new Promise<void>((resolve, reject) => {
      const leave = (): void => {
        clearTimeout(timer);
        signal.removeEventListener('abort', onAbort);
        this.#waiters.delete(waiter);
      };
      const onAbort = (): void => {
        leave();
        reject(signal.reason);
      };
      const waiter: Waiter = {
        grant: () => {
          leave();
          resolve();
        },
      };
      const timer = setTimeout(() => {
        leave();
        reject(busy('no connection to the upstream became free'));
      }, this.#options.waitMs);
      this.#waiters.add(waiter);
      signal.addEventListener('abort', onAbort, { once: true });
    });
  }

  /** The slot passes to the first waiter without becoming free in between. */
  #release(): void {
    const [first] = this.#waiters;
    if (first === undefined) this.#held -= 1;
    else first.grant();
  }
}

function busy(message: string): CodedError {
  return new CodedError('UPSTREAM_LIMITED', {
    message: `${message} (max-connections)`,
    detail: { retryAfterSeconds: 1 },
  });
}
