import { Slots } from '@sepia/base/async/slots';

/** Windows that are read at once in a process. More at once are no faster, and what each needs meanwhile outlives V8's young heap. */
const MOST_AT_ONCE = 32;
/** A read that takes longer gives its turn to the next and goes on, in ms: one slow source holds up nobody. */
const TURN_MS = 250;

/** Turns in the order asked; nobody waits for more than the turns before. */
export class ReadTurns {
  readonly #slots: Slots;
  readonly #turnMs: number;

  constructor(options: { readonly most: number; readonly turnMs: number }) {
    this.#slots = new Slots({ slots: options.most });
    this.#turnMs = options.turnMs;
  }

  async run<T>(work: () => Promise<T>): Promise<T> {
    const over = this.#slots.take() ?? (await this.#slots.acquire());
    const timer = setTimeout(over, this.#turnMs);
    try {
      return await work();
    } finally {
      clearTimeout(timer);
      over();
    }
  }
}

/** Those of this process. */
export const readTurns = new ReadTurns({ most: MOST_AT_ONCE, turnMs: TURN_MS });
