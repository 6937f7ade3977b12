/** A timer of the virtual clock, with what Node's own timers offer to their owners. */
class VirtualTimer {
  dueMs: number;
  readonly everyMs: number | undefined;
  readonly run: () => void;

  constructor(dueMs: number, everyMs: number | undefined, run: () => void) {
    this.dueMs = dueMs;
    this.everyMs = everyMs;
    this.run = run;
  }

  unref(): this {
    return this;
  }

  ref(): this {
    return this;
  }

  hasRef(): boolean {
    return true;
  }
}

type Callback = (...args: unknown[]) => void;
/** Turns of the event loop after which everything that needs no timer has run. */
const QUIET_TURNS = 3;

/**
 * A clock that stands still until everything that can run has run, then jumps to the next timer. While it is installed
 * `setTimeout`, `setInterval`, `Date.now`, `performance.now` and `AbortSignal.timeout` of this process are its own, so
 * that code under test needs no seam for time. Only for code without real sockets and files.
 */
export class VirtualTime {
  #nowMs = 1_700_000_000_000;
  readonly #startMs = this.#nowMs;
  readonly #timers = new Set<VirtualTimer>();
  readonly #real = {
    setTimeout: globalThis.setTimeout,
    clearTimeout: globalThis.clearTimeout,
    setInterval: globalThis.setInterval,
    clearInterval: globalThis.clearInterval,
    setImmediate: globalThis.setImmediate,
    dateNow: Date.now,
    performanceNow: performance.now,
    timeout: AbortSignal.timeout,
  };

  /** Ms since it was installed. */
  get elapsedMs(): number {
    return this.#nowMs - this.#startMs;
  }

  install(): this {
    const clear = (timer: unknown): void => {
      if (timer instanceof VirtualTimer) this.#timers.delete(timer);
      else this.#real.clearTimeout.call(globalThis, timer as NodeJS.Timeout);
    };
    Object.assign(globalThis, {
      setTimeout: (run: Callback, ms?: number, ...args: unknown[]) => this.#add(ms, () => run(...args)),
      setInterval: (run: Callback, ms?: number, ...args: unknown[]) =>
        this.#add(ms, () => run(...args), true),
      clearTimeout: clear,
      clearInterval: clear,
    });
    Date.now = () => this.#nowMs;
    performance.now = () => this.elapsedMs;
    AbortSignal.timeout = (ms: number): AbortSignal => {
      const late = new AbortController();
      this.#add(ms, () => late.abort(new DOMException('timeout', 'TimeoutError')));
      return late.signal;
    };
    return this;
  }

  uninstall(): void {
    const { dateNow, performanceNow, timeout, setImmediate: _, ...timers } = this.#real;
    Object.assign(globalThis, timers);
    Date.now = dateNow;
    performance.now = performanceNow;
    AbortSignal.timeout = timeout;
    this.#timers.clear();
  }

  /** Runs until `work` settles, and returns its value. @throws when nothing is left that could settle it */
  async settle<T>(work: Promise<T>, limitMs = 3_600_000): Promise<T> {
    let open = true;
    const ended = (): void => {
      open = false;
    };
    work.then(ended, ended);
    const untilMs = this.#nowMs + limitMs;
    for (await this.#quiet(); open; await this.#quiet()) {
      const next = this.#next();
      if (next === undefined || next.dueMs > untilMs) throw new Error('nothing is left that could end this');
      this.#fire(next);
    }
    return await work;
  }

  /** Lets `ms` pass. */
  async pass(ms: number): Promise<void> {
    const untilMs = this.#nowMs + ms;
    for (await this.#quiet(); ; await this.#quiet()) {
      const next = this.#next();
      if (next === undefined || next.dueMs > untilMs) break;
      this.#fire(next);
    }
    this.#nowMs = untilMs;
  }

  #fire(timer: VirtualTimer): void {
    this.#timers.delete(timer);
    this.#nowMs = Math.max(this.#nowMs, timer.dueMs);
    if (timer.everyMs !== undefined) {
      timer.dueMs = this.#nowMs + timer.everyMs;
      this.#timers.add(timer);
    }
    timer.run();
  }

  #next(): VirtualTimer | undefined {
    let first: VirtualTimer | undefined;
    for (const timer of this.#timers) if (first === undefined || timer.dueMs < first.dueMs) first = timer;
    return first;
  }

  #add(ms: number | undefined, run: () => void, repeats = false): VirtualTimer {
    const inMs = Math.max(1, ms ?? 1);
    const timer = new VirtualTimer(this.#nowMs + inMs, repeats ? inMs : undefined, run);
    this.#timers.add(timer);
    return timer;
  }

  async #quiet(): Promise<void> {
    for (let turn = 0; turn < QUIET_TURNS; turn++)
      await new Promise<void>((resolve) => this.#real.setImmediate.call(globalThis, resolve));
  }
}
