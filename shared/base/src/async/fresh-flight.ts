import { pause } from '../lifecycle.ts';
import { SingleFlight } from './single-flight.ts';

/**
 * As {@link SingleFlight}, for what may have changed a moment ago: nobody gets an outcome of work that had begun before they
 * asked. Who comes while it is under way waits for the next run, all together. That one begins when the former has ended, or
 * after `waitMs` beside it: so thousands that ask at once cost two runs, or one each `waitMs` while a run is slow.
 */
export class FreshFlight<K, T> {
  readonly #running = new SingleFlight<K, T>();
  readonly #next = new SingleFlight<K, T>();
  readonly #waitMs: number;

  constructor(options: { readonly waitMs: number }) {
    this.#waitMs = options.waitMs;
  }

  /**
   * Runs `work`, or joins the run that has not begun yet. A run is aborted when all who wait for it have left.
   * @throws what the run fails with; the reason of `signal`, for this caller alone
   */
  async run(key: K, work: (signal: AbortSignal) => Promise<T>, signal: AbortSignal): Promise<T> {
    if (!this.#running.has(key)) return await this.#running.run(key, work, signal);
    const afterIt = async (wanted: AbortSignal): Promise<T> => {
      const isOver = await this.#waited(key);
      // Who comes from now on is too late for this run too.
      this.#next.forget(key);
      if (!isOver) this.#running.forget(key);
      return await this.#running.run(key, work, wanted);
    };
    return await this.#next.run(key, afterIt, signal);
  }

  /** True when what was under way has ended, false when it is not waited for any more. */
  async #waited(key: K): Promise<boolean> {
    const done = new AbortController();
    try {
      const ended = this.#running.idle(key).then(() => true);
      return await Promise.race([ended, pause(this.#waitMs, done.signal).then(() => false)]);
    } finally {
      done.abort();
    }
  }
}
