/**
 * A controller that is aborted with any of `signals`, until {@link LinkedAbort.unlink}. Unlike `AbortSignal.any` it
 * leaves nothing behind at signals that live long.
 */
export class LinkedAbort {
  readonly #controller = new AbortController();
  readonly #signals: readonly AbortSignal[];
  readonly #onAbort = (event: Event): void => this.abort((event.target as AbortSignal).reason);

  constructor(...signals: readonly AbortSignal[]) {
    this.#signals = signals;
    const aborted = signals.find((one) => one.aborted);
    if (aborted !== undefined) this.#controller.abort(aborted.reason);
    else for (const one of signals) one.addEventListener('abort', this.#onAbort, { once: true });
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  abort(reason: unknown): void {
    this.unlink();
    this.#controller.abort(reason);
  }

  /** What happens to `signals` from now on does not matter. Idempotent. */
  unlink(): void {
    for (const one of this.#signals) one.removeEventListener('abort', this.#onAbort);
  }
}
