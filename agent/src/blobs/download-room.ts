import { CodedError } from '@sepia/base/errors';
import { delay } from '@sepia/base/lifecycle';

interface RoomOptions {
  /** Downloads at once. */
  readonly most: number;
  /** Requests that wait; further ones are refused. */
  readonly mostWaiting: number;
  /** Longest wait, in ms. */
  readonly waitMs: number;
  /** How often it is looked for room, in ms. */
  readonly lookMs: number;
}

const DEFAULTS: RoomOptions = { most: 256, mostWaiting: 4_096, waitMs: 60_000, lookMs: 100 };

/** Room for downloads: who finds none waits for it, since a 503 fails a client's whole pull. */
export class DownloadRoom {
  readonly #options: RoomOptions;
  readonly #running: () => number;
  readonly #makeRoom: () => void;
  #waiting = 0;

  /** `running`: downloads there are; `makeRoom` ends one that nobody reads, if there is any. */
  constructor(
    deps: { readonly running: () => number; readonly makeRoom: () => void },
    options: Partial<RoomOptions> = {},
  ) {
    this.#running = deps.running;
    this.#makeRoom = deps.makeRoom;
    this.#options = { ...DEFAULTS, ...options };
  }

  get isFull(): boolean {
    if (this.#running() >= this.#options.most) this.#makeRoom();
    return this.#running() >= this.#options.most;
  }

  /** Resolves when there is room. @throws `NO_PEERS` after the longest wait, or when too many wait; the signal's reason */
  async wait(signal: AbortSignal): Promise<void> {
    if (this.#waiting >= this.#options.mostWaiting) throw full();
    const untilMs = performance.now() + this.#options.waitMs;
    this.#waiting += 1;
    try {
      while (this.isFull) {
        if (performance.now() >= untilMs) throw full();
        await delay(this.#options.lookMs, signal);
      }
    } finally {
      this.#waiting -= 1;
    }
  }
}

function full(): CodedError {
  const detail = { retryAfterSeconds: 2 };
  return new CodedError('NO_PEERS', { message: 'too many downloads at once', detail });
}
