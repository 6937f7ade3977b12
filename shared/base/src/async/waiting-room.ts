import { CodedError } from '../errors.ts';
import { delay } from '../lifecycle.ts';

interface RoomOptions {
  /** How many run now. */
  readonly running: () => number;
  /** Ends one that nobody needs, if there is one. */
  readonly makeRoom: () => void;
  /** What is bounded, for the error: `downloads`. */
  readonly what: string;
  /** How many may run at once. */
  readonly most: number;
  /** Requests that wait; further ones are refused. */
  readonly mostWaiting?: number;
  /** Longest wait, in ms. */
  readonly waitMs?: number;
  /** How often it is looked for room, in ms. */
  readonly lookMs?: number;
}

const DEFAULTS = { mostWaiting: 4_096, waitMs: 60_000, lookMs: 100 };

/** Room for so much at once: who finds none waits for it, since a 503 fails a client's whole pull. */
export class WaitingRoom {
  readonly #options: Required<RoomOptions>;
  #waiting = 0;

  constructor(options: RoomOptions) {
    this.#options = { ...DEFAULTS, ...options };
  }

  get isFull(): boolean {
    const { running, most, makeRoom } = this.#options;
    if (running() >= most) makeRoom();
    return running() >= most;
  }

  /** Resolves when there is room. @throws `NO_PEERS` after the longest wait, or when too many wait; the signal's reason */
  async wait(signal: AbortSignal): Promise<void> {
    if (this.#waiting >= this.#options.mostWaiting) throw this.#full();
    const untilMs = performance.now() + this.#options.waitMs;
    this.#waiting += 1;
    try {
      while (this.isFull) {
        if (performance.now() >= untilMs) throw this.#full();
        await delay(this.#options.lookMs, signal);
      }
    } finally {
      this.#waiting -= 1;
    }
  }

  #full(): CodedError {
    const detail = { retryAfterSeconds: 2 };
    return new CodedError('NO_PEERS', { message: `too many ${this.#options.what} at once`, detail });
  }
}
