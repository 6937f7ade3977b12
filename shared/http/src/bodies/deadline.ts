import { CodedError } from '@sepia/base/errors';
import { readElsewhere } from '@sepia/base/failure';

/**
 * The deadline of one body: aborts its signal when a source makes no progress for as long as was asked, or when the
 * client is gone. One timer for the whole body; while the client is what is waited for, it stands still.
 */
export class Deadline {
  readonly #late = new AbortController();
  readonly #gone: AbortSignal;
  readonly #onGone = (): void => this.#late.abort(this.#gone.reason);
  #timer: NodeJS.Timeout | undefined;
  /** When the timer looks next. */
  #lookMs = 0;
  #dueMs = Number.POSITIVE_INFINITY;
  /** How long is waited now, in ms. */
  #waitMs = 0;

  /** `gone` is aborted when the client is. */
  constructor(gone: AbortSignal) {
    this.#gone = gone;
    if (gone.aborted) this.#onGone();
    else gone.addEventListener('abort', this.#onGone, { once: true });
  }

  get signal(): AbortSignal {
    return this.#late.signal;
  }

  /**
   * What `work` resolves with, unless it takes longer than `ms`: then `NO_PEERS`, even if it does not watch the signal.
   * `late` hears of a result that came after that.
   */
  async run<T>(ms: number, work: Promise<T>, late: (result: T) => void = () => {}): Promise<T> {
    this.#arm(ms);
    const { signal } = this;
    return await new Promise<T>((resolve, reject) => {
      const done = (settle: () => void): void => {
        this.#dueMs = Number.POSITIVE_INFINITY;
        signal.removeEventListener('abort', onAbort);
        settle();
      };
      const onAbort = (): void => {
        readElsewhere(work.then(late));
        done(() => reject(signal.reason));
      };
      if (signal.aborted) return onAbort();
      signal.addEventListener('abort', onAbort, { once: true });
      work.then(
        (result) => done(() => resolve(result)),
        (error: unknown) => done(() => reject(error)),
      );
    });
  }

  /** Idempotent. */
  end(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#gone.removeEventListener('abort', this.#onGone);
  }

  /** A timer that looks before then is kept: it sees that more time was given. One that looks later is set anew. */
  #arm(ms: number): void {
    this.#waitMs = ms;
    this.#dueMs = performance.now() + ms;
    if (this.#timer === undefined || this.#dueMs < this.#lookMs) this.#lookIn(ms);
  }

  #lookIn(ms: number): void {
    clearTimeout(this.#timer);
    this.#lookMs = performance.now() + ms;
    this.#timer = setTimeout(() => this.#look(), ms);
  }

  #look(): void {
    this.#timer = undefined;
    const leftMs = this.#dueMs - performance.now();
    if (leftMs === Number.POSITIVE_INFINITY) return;
    const message = `no verified progress within ${this.#waitMs / 1000} s`;
    if (leftMs > 0) this.#lookIn(leftMs);
    else this.#late.abort(new CodedError('NO_PEERS', { message }));
  }
}
