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

  /** Resolves when the tasks of `key` that were asked for so far have ended. */
  async idle(key: K): Promise<void> {
    await this.#tails.get(key);
  }

  /** Resolves when all tasks asked for so far have ended. */
  async allIdle(): Promise<void> {
    await Promise.all(this.#tails.values());
  }
}
