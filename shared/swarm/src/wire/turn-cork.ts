import type { Writable } from 'node:stream';

/** What is written to a socket in one turn goes out with one call: messages come in bursts, and a request has 17 bytes. */
export class TurnCork {
  readonly #socket: Writable;
  #isCorked = false;

  constructor(socket: Writable) {
    this.#socket = socket;
  }

  /** Call before a write. */
  hold(): void {
    if (this.#isCorked) return;
    this.#isCorked = true;
    this.#socket.cork();
    process.nextTick(() => this.flush());
  }

  flush(): void {
    if (!this.#isCorked) return;
    this.#isCorked = false;
    this.#socket.uncork();
  }
}
