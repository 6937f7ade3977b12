import { setImmediate } from 'node:timers/promises';
import { CodedError } from '../errors.ts';
import { delay } from '../lifecycle.ts';
import { Slots } from './slots.ts';

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

/** Somebody's place in a {@link WaitingRoom}, or before it. */
export interface RoomPlace {
  /** Takes a place, if there is one and nobody waits for it: it is kept until {@link leave}. True also where one was taken. */
  take(): boolean;
  /** Resolves once a place was taken. @throws `NO_PEERS` after the longest wait, or when too many wait; the signal's reason */
  wait(signal: AbortSignal): Promise<void>;
  /** What it was for runs, and counts by itself; or comes to nothing. Idempotent. */
  leave(): void;
}

/**
 * Room for so much at once: who finds none waits for it, since a 503 fails a client's whole pull. First come, first served, whoever comes
 * while others wait; lanes take turns.
 */
export class WaitingRoom {
  readonly #options: Required<RoomOptions>;
  /** Who has its slot is next, and looks for room; the others stand behind it. */
  readonly #line: Slots;
  /** Places that were taken, and of which nothing runs yet. */
  #taken = 0;

  constructor(options: RoomOptions) {
    this.#options = { ...DEFAULTS, ...options };
    const { mostWaiting, waitMs } = this.#options;
    this.#line = new Slots({
      slots: 1,
      limits: { queueLimit: mostWaiting - 1, waitMs, refusal: () => this.#full() },
    });
  }

  /** For one that wants to run. Leave it, whatever becomes of it. */
  place(lane = ''): RoomPlace {
    let isTaken = false;
    const mine = (): void => {
      isTaken = true;
      this.#taken += 1;
    };
    return {
      take: () => {
        if (!isTaken && this.#line.held === 0 && this.#hasRoom()) mine();
        return isTaken;
      },
      wait: async (signal) => {
        if (!isTaken) await this.#wait(lane, signal, mine);
      },
      leave: () => {
        if (isTaken) this.#taken -= 1;
        isTaken = false;
      },
    };
  }

  async #wait(lane: string, signal: AbortSignal, mine: () => void): Promise<void> {
    const untilMs = performance.now() + this.#options.waitMs;
    const release = await this.#line.acquire(signal, lane);
    try {
      while (!(await this.#mayEnter())) {
        if (performance.now() >= untilMs) throw this.#full();
        await delay(this.#options.lookMs, signal);
      }
      mine();
    } finally {
      release();
    }
  }

  get #isFull(): boolean {
    return this.#options.running() + this.#taken >= this.#options.most;
  }

  #hasRoom(): boolean {
    if (this.#isFull) this.#options.makeRoom();
    return !this.#isFull;
  }

  /** One that was ended to make room may be over a moment later. */
  async #mayEnter(): Promise<boolean> {
    if (this.#hasRoom()) return true;
    await setImmediate();
    return !this.#isFull;
  }

  #full(): CodedError {
    const detail = { retryAfterSeconds: 2 };
    return new CodedError('NO_PEERS', { message: `too many ${this.#options.what} at once`, detail });
  }
}
