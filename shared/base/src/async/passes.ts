import { boundedMs } from '../bounded-ms.ts';
import { CodedError } from '../errors.ts';
import { isBug, logFailure } from '../failure.ts';
import { pause } from '../lifecycle.ts';
import type { Logger } from '../log.ts';
import { notePass, type PassEnd } from '../metrics.ts';

/** A rest of which nobody can tell how long it is to be, in ms. */
const UNKNOWN_REST_MS = 60_000;

/** How long to rest before the next pass. */
interface Rest {
  readonly ms: number;
  /** So much of it, in ms, no {@link Passes.wake} ends. */
  readonly deafMs: number;
}

/** Time, and how it is waited for: the process's, or a test's. */
interface PassClock {
  readonly nowMs: () => number;
  /** Resolves after `ms`, or at once when the signal aborts. */
  readonly rest: (ms: number, signal: AbortSignal) => Promise<unknown>;
}

interface PassesOptions {
  /** Of the loop, in metrics. */
  readonly name: string;
  /** One pass; it ends soon when the signal aborts, with a failure or without. */
  readonly pass: (signal: AbortSignal) => Promise<void>;
  /** Asked after each pass. It may first wait for something to be there at all, until the signal aborts. */
  readonly rest: (last: PassEnd, signal: AbortSignal) => number | Rest | Promise<number | Rest>;
  /** Rest before the first pass, in ms; default: none. */
  readonly firstMs?: number;
  readonly log: Logger;
  /** What a log line says of a pass that failed, and at which level; default: `error`. */
  readonly failed: string;
  readonly level?: 'debug' | 'warn' | 'error';
  readonly clock?: PassClock;
}

const CLOCK: PassClock = { nowMs: () => performance.now(), rest: pause };

/**
 * Work that a service does by itself for as long as it runs: a pass, a rest, the next pass; one at a time.
 *
 * - A failure ends its pass, never the loop: it is logged, and what is left is looked at in the next one. A bug is logged
 *   as one and counted, also while the loop stops.
 * - A rest is at least 1 ms and at most what timers take, whatever was computed: a loop never spins. Where its length
 *   cannot be told, which is logged, it is a minute.
 * - {@link wake} ends the rest, or makes the one after the pass under way end at once, so that no wake is lost.
 * - {@link stop} aborts the pass under way and waits for it: afterwards nothing runs, and nothing begins.
 */
export class Passes {
  readonly #options: PassesOptions;
  readonly #clock: PassClock;
  readonly #stopped = new AbortController();
  #woken = new AbortController();
  #running: Promise<void> | undefined;

  constructor(options: PassesOptions) {
    this.#options = options;
    this.#clock = options.clock ?? CLOCK;
  }

  /** Aborts when the loop stops: for work beside the passes that ends with them. */
  get signal(): AbortSignal {
    return this.#stopped.signal;
  }

  /** Idempotent; a loop that was stopped does not start again. */
  start(): void {
    this.#running ??= this.#run();
  }

  /** Begins the next pass now: there is something to do. */
  wake(): void {
    this.#woken.abort();
  }

  /** Idempotent. `reason` is what the pass under way, and who holds {@link signal}, get. */
  async stop(reason: CodedError = new CodedError('DRAINING')): Promise<void> {
    this.#stopped.abort(reason);
    this.#woken.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopped;
    const { firstMs } = this.#options;
    if (firstMs !== undefined) await this.#clock.rest(boundedMs(firstMs), this.#woken.signal);
    while (!signal.aborted) {
      this.#woken = new AbortController();
      const end = await this.#pass();
      if (signal.aborted) return;
      const { ms, deafMs } = await this.#restAfter(end);
      if (deafMs > 0) await this.#clock.rest(boundedMs(deafMs), signal);
      if (!signal.aborted) await this.#clock.rest(boundedMs(ms - deafMs, 1), this.#woken.signal);
    }
  }

  async #pass(): Promise<PassEnd> {
    const beganMs = this.#clock.nowMs();
    let isFailed = false;
    try {
      await this.#options.pass(this.signal);
    } catch (error) {
      isFailed = true;
      this.#onFailure(error);
    }
    const end = { isFailed, tookMs: this.#clock.nowMs() - beganMs };
    notePass(this.#options.name, end);
    return end;
  }

  async #restAfter(end: PassEnd): Promise<Rest> {
    try {
      const rest = await this.#options.rest(end, this.signal);
      return typeof rest === 'number' ? { ms: rest, deafMs: 0 } : rest;
    } catch (error) {
      this.#onFailure(error);
      return { ms: UNKNOWN_REST_MS, deafMs: 0 };
    }
  }

  #onFailure(error: unknown): void {
    const { log, failed, level = 'error' } = this.#options;
    if (!this.signal.aborted || isBug(error)) logFailure(log, error, failed, {}, level);
  }
}
