/** Sends a HAVE at once, then collects those that follow for a short while, so that many small pieces cost one message. */
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
    // Somebody may wait for this piece alone: who has said nothing of late says it now.
    if (this.#timer === undefined || this.#indexes.length >= this.#limits.haveBatch) this.#flush();
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#indexes = [];
  }

  #flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const indexes = this.#indexes;
    if (indexes.length === 0) return;
    this.#indexes = [];
    this.#timer = setTimeout(() => this.#flush(), this.#limits.haveBatchMs);
    this.#send(indexes);
  }
}
