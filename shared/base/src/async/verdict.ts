import { noteLate } from '../failure.ts';

/**
 * One outcome that several may bring about: the first one counts, later ones are not heard, but for a bug, which is
 * counted and told ({@link noteLate}): what one of three members does wrong each time must not hide behind the other two.
 */
export class Verdict<T> {
  readonly outcome: Promise<T>;
  readonly #resolve: (value: T) => void;
  readonly #reject: (error: unknown) => void;
  #isOver = false;

  constructor() {
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    this.outcome = promise;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  give(value: T): void {
    this.#isOver = true;
    this.#resolve(value);
  }

  fail(error: unknown): void {
    if (this.#isOver) noteLate(error);
    else this.#reject(error);
    this.#isOver = true;
  }
}
