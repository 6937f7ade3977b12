import { Gathering } from './core/gathering.ts';

interface Queued {
  isAwaited: boolean;
  readonly begin: () => void;
}

/** Look-ups that begin when {@link Gathering} says so, those of a round in one turn. */
export class Rounds {
  readonly #gathering = new Gathering<Queued>();
  /** The last of each key that has not begun. */
  readonly #queued = new Map<string, Queued>();
  #timer: NodeJS.Timeout | undefined;
  #timerMs = Number.POSITIVE_INFINITY;

  /** `work` is told whether somebody waits for it by the time it begins. */
  async run<T>(key: string, isAwaited: boolean, work: (isAwaited: boolean) => Promise<T>): Promise<T> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const begin = (): void => {
      if (this.#queued.get(key) === queued) this.#queued.delete(key);
      resolve();
    };
    const queued: Queued = { isAwaited, begin };
    this.#queued.set(key, queued);
    this.#gathering.add(queued, isAwaited, performance.now());
    this.#look();
    await promise;
    try {
      return await work(queued.isAwaited);
    } finally {
      this.#gathering.ended();
      this.#look();
    }
  }

  /** Somebody waits from now on for what runs by this key, if it has not begun. */
  awaited(key: string): void {
    const queued = this.#queued.get(key);
    if (queued === undefined || queued.isAwaited) return;
    queued.isAwaited = true;
    this.#gathering.awaited(performance.now());
    this.#look();
  }

  #look(): void {
    const nowMs = performance.now();
    for (const { begin } of this.#gathering.begin(nowMs)) begin();
    const { dueMs } = this.#gathering;
    if (dueMs === this.#timerMs) return;
    clearTimeout(this.#timer);
    this.#timerMs = dueMs;
    if (dueMs === Number.POSITIVE_INFINITY) return;
    this.#timer = setTimeout(() => {
      this.#timerMs = Number.POSITIVE_INFINITY;
      this.#look();
    }, dueMs - nowMs);
  }
}
