/** Windows that are read at once in a process. More at once are no faster, and what each needs meanwhile outlives V8's young heap. */
const MOST_AT_ONCE = 32;
/** A read that takes longer gives its turn to the next and goes on, in ms: one slow source holds up nobody. */
const TURN_MS = 250;

/** Turns in the order asked; nobody waits for more than the turns before. */
export class ReadTurns {
  readonly #waiting: (() => void)[] = [];
  readonly #most: number;
  readonly #turnMs: number;
  #running = 0;

  constructor(options: { readonly most: number; readonly turnMs: number }) {
    this.#most = options.most;
    this.#turnMs = options.turnMs;
  }

  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#running >= this.#most) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    else this.#running += 1;
    let isOver = false;
    const over = (): void => {
      if (isOver) return;
      isOver = true;
      clearTimeout(timer);
      // The turn is handed on as it is.
      const next = this.#waiting.shift();
      if (next === undefined) this.#running -= 1;
      else next();
    };
    const timer = setTimeout(over, this.#turnMs);
    try {
      return await work();
    } finally {
      over();
    }
  }
}

/** Those of this process. */
export const readTurns = new ReadTurns({ most: MOST_AT_ONCE, turnMs: TURN_MS });
