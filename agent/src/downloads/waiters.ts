interface Waiter {
  resolve(): void;
  reject(error: unknown): void;
}

/** Those that wait for something named by a key: a piece, or the end of a download. */
export class Waiters<K> {
  readonly #waiting = new Map<K, Set<Waiter>>();

  /** Resolves with {@link wake} of `key`; rejects with {@link fail} or the signal's reason. */
  async wait(key: K, signal: AbortSignal): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      if (signal.aborted) return reject(signal.reason);
      const done = (settle: () => void): void => {
        signal.removeEventListener('abort', onAbort);
        this.#remove(key, waiter);
        settle();
      };
      const waiter: Waiter = { resolve: () => done(resolve), reject: (error) => done(() => reject(error)) };
      const onAbort = (): void => waiter.reject(signal.reason);
      signal.addEventListener('abort', onAbort, { once: true });
      this.#of(key).add(waiter);
    });
  }

  wake(key: K): void {
    for (const waiter of [...(this.#waiting.get(key) ?? [])]) waiter.resolve();
  }

  /** All of them, whatever they wait for. */
  fail(error: unknown): void {
    for (const waiters of [...this.#waiting.values()])
      for (const waiter of [...waiters]) waiter.reject(error);
  }

  #of(key: K): Set<Waiter> {
    let waiters = this.#waiting.get(key);
    if (waiters === undefined) {
      waiters = new Set();
      this.#waiting.set(key, waiters);
    }
    return waiters;
  }

  #remove(key: K, waiter: Waiter): void {
    const waiters = this.#waiting.get(key);
    if (waiters?.delete(waiter) === true && waiters.size === 0) this.#waiting.delete(key);
  }
}
