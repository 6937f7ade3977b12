import { Gathering } from './core/gathering.ts';

/** Look-ups that begin when {@link Gathering} says so, those of a round in one turn. */
export class Rounds {
  readonly #gathering = new Gathering<() => void>();
  #timer: NodeJS.Timeout | undefined;
  #timerMs = Number.POSITIVE_INFINITY;

  async run<T>(isAwaited: boolean, work: () => Promise<T>): Promise<T> {
    await new Promise<void>((begin) => {
      this.#gathering.add(begin, isAwaited, performance.now());
      this.#look();
    });
    try {
      return await work();
    } finally {
      this.#gathering.ended();
      this.#look();
    }
  }

  #look(): void {
    const nowMs = performance.now();
    for (const begin of this.#gathering.begin(nowMs)) begin();
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
