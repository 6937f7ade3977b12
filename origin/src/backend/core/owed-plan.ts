import { backoffMs } from '@sepia/base/async/backoff';

/** What to do about a blob that the backend may not have yet. `look`: whether somebody else wrote it. */
export type OwedStep = 'write' | 'look' | 'wait';

/** Times of {@link OwedPlan}, in ms. */
export interface OwedTimes {
  /** The others look after this, and then less and less often. */
  readonly lookMs: number;
  /** A blob that the leader did not write within this is written by whoever has it. */
  readonly takeOverMs: number;
  readonly firstRetryMs: number;
  readonly maxRetryMs: number;
}

interface Owed {
  readonly sizeBytes: number;
  readonly sinceMs: number;
  failures: number;
  looks: number;
  dueMs: number;
}

/** Blobs that this origin owes to a backend, and when which of them is looked at: a pure book, held within `maxKnown`. */
export class OwedPlan {
  readonly #times: OwedTimes;
  readonly #maxKnown: number;
  readonly #owed = new Map<string, Owed>();
  #bytes = 0;
  #hasMore = true;

  constructor(options: { readonly times: OwedTimes; readonly maxKnown: number }) {
    this.#times = options.times;
    this.#maxKnown = options.maxKnown;
  }

  get size(): number {
    return this.#owed.size;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** When the oldest of them came to be known here. */
  get oldestMs(): number | undefined {
    const [oldest] = this.#owed.values();
    return oldest?.sinceMs;
  }

  /** There may be some on record that are not known here: read them when there is room. */
  get wantsMore(): boolean {
    return this.#hasMore && this.#owed.size < this.#maxKnown / 2;
  }

  /** All on record were read; those that came meanwhile and had no room are still on record. */
  allRead(): void {
    this.#hasMore = false;
  }

  /** False if there is no room: it stays on record. One that is known is due at once, and is as it was otherwise. */
  add(digest: string, sizeBytes: number, nowMs: number): boolean {
    const known = this.#owed.get(digest);
    if (known !== undefined) return true;
    if (this.#owed.size >= this.#maxKnown) {
      this.#hasMore = true;
      return false;
    }
    this.#owed.set(digest, { sizeBytes, sinceMs: nowMs, failures: 0, looks: 0, dueMs: nowMs });
    this.#bytes += sizeBytes;
    return true;
  }

  /** It is there, or is no business of this origin any more. */
  done(digest: string): void {
    const owed = this.#owed.get(digest);
    if (owed === undefined) return;
    this.#owed.delete(digest);
    this.#bytes -= owed.sizeBytes;
  }

  /** Those that are due, the oldest first. */
  due(nowMs: number): string[] {
    return [...this.#owed].filter(([, one]) => one.dueMs <= nowMs).map(([digest]) => digest);
  }

  /** In how many ms the next one is due; undefined where none is owed. */
  nextMs(nowMs: number): number | undefined {
    let next: number | undefined;
    for (const { dueMs } of this.#owed.values()) next = Math.min(next ?? dueMs, dueMs);
    return next === undefined ? undefined : Math.max(0, next - nowMs);
  }

  /** The leader of a digest writes it; the others look until it is there, and write it when it does not come. */
  step(digest: string, isLeader: boolean, nowMs: number): OwedStep {
    const owed = this.#owed.get(digest);
    if (owed === undefined) return 'wait';
    if (isLeader || nowMs - owed.sinceMs >= this.#times.takeOverMs) return 'write';
    if (owed.looks > 0) return 'look';
    owed.looks = 1;
    owed.dueMs = nowMs + this.#times.lookMs;
    return 'wait';
  }

  /** It was looked for and is not there yet. */
  notYet(digest: string, nowMs: number): void {
    const owed = this.#owed.get(digest);
    if (owed === undefined) return;
    owed.looks += 1;
    owed.dueMs = nowMs + backoffMs(owed.looks - 1, this.#times.lookMs, this.#times.maxRetryMs);
  }

  /** It could not be written or looked for; `afterMs`: the backend asks for so much patience. */
  failed(digest: string, afterMs: number | undefined, nowMs: number): number {
    const owed = this.#owed.get(digest);
    if (owed === undefined) return 0;
    const { firstRetryMs, maxRetryMs } = this.#times;
    owed.failures += 1;
    const waitMs = Math.max(
      backoffMs(owed.failures, firstRetryMs, maxRetryMs),
      Math.min(afterMs ?? 0, maxRetryMs),
    );
    owed.dueMs = nowMs + waitMs;
    return owed.failures;
  }
}
