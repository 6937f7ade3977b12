/** Listeners of one event. One that throws does not keep the others from being called: its error goes to `onError`. */
export class Listeners<A extends readonly unknown[]> {
  readonly #all = new Set<(...args: A) => void>();
  readonly #onError: (error: unknown) => void;

  constructor(onError: (error: unknown) => void) {
    this.#onError = onError;
  }

  add(listener: (...args: A) => void): () => void {
    const own = (...args: A): void => listener(...args);
    this.#all.add(own);
    return () => this.#all.delete(own);
  }

  call(...args: A): void {
    for (const listener of [...this.#all]) {
      try {
        listener(...args);
      } catch (error) {
        this.#onError(error);
      }
    }
  }

  clear(): void {
    this.#all.clear();
  }
}
