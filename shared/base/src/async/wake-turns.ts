/**
 * Who waits for something that all share, woken in turn: who was woken, took of it and waits again stands behind all the others.
 * Each waits once, however often it asks.
 */
export class WakeTurns {
  readonly #waiting = new Set<() => void>();

  get size(): number {
    return this.#waiting.size;
  }

  /** Wakes `wake` once when it is its turn; where it waits already, it keeps its place. */
  add(wake: () => void): void {
    this.#waiting.add(wake);
  }

  forget(wake: () => void): void {
    this.#waiting.delete(wake);
  }

  clear(): void {
    this.#waiting.clear();
  }

  /** Wakes those that wait now, the longest wait first, as long as there is something for them; the rest keep their places. */
  wakeWhile(isLeft: () => boolean): void {
    const woken = new Set<() => void>();
    while (isLeft()) {
      const [first] = this.#waiting;
      // Who waits again stands behind all that waited before.
      if (first === undefined || woken.has(first)) return;
      this.#waiting.delete(first);
      woken.add(first);
      first();
    }
  }
}
