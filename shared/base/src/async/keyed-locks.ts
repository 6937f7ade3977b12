import { ended } from '../failure.ts';

/** One task at a time for each key, in the order asked. */
export class KeyedLocks<K> {
  readonly #tails = new Map<K, Promise<void>>();

  /** Runs `task` when all earlier tasks of `key` have ended, and returns what it returns. Not re-entrant. */
  async run<T>(key: K, task: () => Promise<T>): Promise<T> {
    const before = this.#tails.get(key);
    const mine = before === undefined ? task() : before.then(task);
    const tail = ended(mine);
    this.#tails.set(key, tail);
    try {
      return await mine;
    } finally {
      if (this.#tails.get(key) === tail) this.#tails.delete(key);
    }
  }

  /**
   * As {@link run}, when all earlier tasks of every one of `keys` have ended. Two of these never wait for each other:
   * each takes its place in all of its queues at once.
   */
  async runAll<T>(keys: readonly K[], task: () => Promise<T>): Promise<T> {
    const end = Promise.withResolvers<void>();
    const before = new Set(keys.map((key) => this.#tails.get(key)));
    for (const key of keys) this.#tails.set(key, end.promise);
    try {
      await Promise.all(before);
      return await task();
    } finally {
      for (const key of keys) if (this.#tails.get(key) === end.promise) this.#tails.delete(key);
      end.resolve();
    }
  }

  /** Resolves when the tasks of `key` that were asked for so far have ended. */
  async idle(key: K): Promise<void> {
    await this.#tails.get(key);
  }

  /** Resolves when all tasks asked for so far have ended. */
  async allIdle(): Promise<void> {
    await Promise.all(this.#tails.values());
  }
}
