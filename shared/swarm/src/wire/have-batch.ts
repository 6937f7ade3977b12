/** Collects HAVEs for a short while, so that many small pieces cost one message. */
export class HaveBatch {
  readonly #limits: { readonly haveBatch: number; readonly haveBatchMs: number };
  readonly #send: (indexes: readonly number[]) => void;
  #indexes: number[] = [];
  #timer: NodeJS.Timeout | undefined;

  constructor(
    limits: { readonly haveBatch: number; readonly haveBatchMs: number },
    send: (indexes: readonly number[]) => void,
  ) {
    this.#limits = limits;
    this.#send = send;
  }

  add(index: number): void {
    this.#indexes.push(index);
    if (this.#indexes.length >= this.#limits.haveBatch) this.#flush();
    else this.#timer ??= setTimeout(() => this.#flush(), this.#limits.haveBatchMs);
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#indexes = [];
  }

  #flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const indexes = this.#indexes;
    this.#indexes = [];
    if (indexes.length > 0) this.#send(indexes);
  }
}
