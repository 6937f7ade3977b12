import { GATHER_AWAITED_MS, GATHER_RENEWED_MS } from '../../deadlines.ts';

/**
 * When look-ups begin. Those that begin together share their calls, so they wait for each other: one that somebody waits for
 * until nothing is under way or a moment has passed, where origins have more to do than that one; one that nobody waits for
 * longer, or with the next that somebody does. Pure: time is passed in.
 */
export class Gathering<T> {
  #waiting: T[] = [];
  #running = 0;
  #isAwaited = false;
  #dueMs = Number.POSITIVE_INFINITY;

  /** When {@link begin} is to be called at the latest; infinite while nothing waits. */
  get dueMs(): number {
    return this.#dueMs;
  }

  add(one: T, isAwaited: boolean, nowMs: number): void {
    this.#waiting.push(one);
    this.#isAwaited ||= isAwaited;
    this.#dueMs = Math.min(this.#dueMs, nowMs + (isAwaited ? GATHER_AWAITED_MS : GATHER_RENEWED_MS));
  }

  /** Somebody waits now for one of those that began to wait without. */
  awaited(nowMs: number): void {
    if (this.#waiting.length === 0) return;
    this.#isAwaited = true;
    this.#dueMs = Math.min(this.#dueMs, nowMs + GATHER_AWAITED_MS);
  }

  /** Those that begin now, in the order in which they came: all that wait, or none. {@link ended} is called once for each. */
  begin(nowMs: number): readonly T[] {
    const isTime = nowMs >= this.#dueMs || (this.#isAwaited && this.#running === 0);
    if (!isTime) return [];
    const begun = this.#waiting;
    [this.#waiting, this.#isAwaited, this.#dueMs] = [[], false, Number.POSITIVE_INFINITY];
    this.#running += begun.length;
    return begun;
  }

  ended(): void {
    this.#running -= 1;
  }
}
