import { backoffMs } from '@sepia/base/async/backoff';

/** What to do about a blob that the backend may not have yet. `look`: whether somebody else wrote it. */
export type OwedStep = 'write' | 'look' | 'wait';

/** Times of {@link OwedPlan}, in ms. */
export interface OwedTimes {
  /** Origins that do not lead look at the backend after this, then ever less often. */
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
  /** Its backend, once it was looked at. */
  place?: string;
}

/** A backend that fails: nobody asks it anything until `untilMs`. */
interface Pause {
  readonly failures: number;
  readonly untilMs: number;
}

/** What is owed to one backend. */
export interface OwedSum {
  readonly blobs: number;
  readonly bytes: number;
  /** When the oldest of them was added here, in ms; undefined if none is known. */
  readonly oldestMs: number | undefined;
}

/** Blobs that this origin owes to a backend, and when which of them is looked at: a pure book, held within `maxKnown`. */
export class OwedPlan {
  readonly #times: OwedTimes;
  readonly #maxKnown: number;
  readonly #owed = new Map<string, Owed>();
  readonly #pauses = new Map<string, Pause>();
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

  /** When the oldest of them was added here, in ms; undefined if none is known. */
  get oldestMs(): number | undefined {
    const [oldest] = this.#owed.values();
    return oldest?.sinceMs;
  }

  /** True if blobs on record may be unknown here, and there is room to read them. */
  get wantsMore(): boolean {
    return this.#hasMore && this.#owed.size < this.#maxKnown / 2;
  }

  /** All on record were read; those that came meanwhile and had no room are still on record. */
  allRead(): void {
    this.#hasMore = false;
  }

  /**
   * Adds a blob, due at once. True if it is known now; one that was known before is left as it was, due when it was. False if
   * there is no room: it stays on record.
   */
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

  /** Drops a blob: the backend has it, or this origin no longer owes it. */
  done(digest: string): void {
    const owed = this.#owed.get(digest);
    if (owed === undefined) return;
    this.#owed.delete(digest);
    this.#bytes -= owed.sizeBytes;
  }

  /** Notes to which backend a blob is owed. False while that backend rests after a failure: the blob is due after that. */
  at(digest: string, place: string, nowMs: number): boolean {
    const owed = this.#owed.get(digest);
    if (owed !== undefined) owed.place = place;
    return this.#restMs(place, nowMs) === 0;
  }

  /**
   * The backend as a whole does not take anything: it is given a rest, longer each time; `afterMs`: it asks for so much.
   * Returns how often in a row it failed; 0 where it rests already.
   */
  paused(place: string, afterMs: number | undefined, nowMs: number): number {
    if (this.#restMs(place, nowMs) > 0) return 0;
    const failures = (this.#pauses.get(place)?.failures ?? 0) + 1;
    this.#pauses.set(place, { failures, untilMs: nowMs + this.#waitMs(failures, afterMs) });
    return failures;
  }

  /** The backend answered. Returns whether it had failed before. */
  answered(place: string): boolean {
    return this.#pauses.delete(place);
  }

  /** In how many ms a backend that fails is asked again; undefined for one that does not. */
  retryMs(place: string, nowMs: number): number | undefined {
    return this.#pauses.has(place) ? this.#restMs(place, nowMs) : undefined;
  }

  /** What is known to be owed to this backend. */
  sumOf(place: string): OwedSum {
    let [blobs, bytes] = [0, 0];
    let oldestMs: number | undefined;
    for (const owed of this.#owed.values()) {
      if (owed.place !== place) continue;
      oldestMs ??= owed.sinceMs;
      blobs += 1;
      bytes += owed.sizeBytes;
    }
    return { blobs, bytes, oldestMs };
  }

  /** Those that are due, the oldest first. */
  due(nowMs: number): string[] {
    return [...this.#owed].filter(([, one]) => this.#dueMs(one) <= nowMs).map(([digest]) => digest);
  }

  /** In how many ms the next one is due; undefined where none is owed. */
  nextMs(nowMs: number): number | undefined {
    let next: number | undefined;
    for (const owed of this.#owed.values()) {
      const dueMs = this.#dueMs(owed);
      next = Math.min(next ?? dueMs, dueMs);
    }
    return next === undefined ? undefined : Math.max(0, next - nowMs);
  }

  /**
   * What to do now about a blob that is due. The leader of a digest writes it; other owners look until it is there, and write
   * it themselves when it does not come.
   */
  step(digest: string, isLeader: boolean, nowMs: number): OwedStep {
    const owed = this.#owed.get(digest);
    if (owed === undefined) return 'wait';
    if (isLeader || nowMs - owed.sinceMs >= this.#times.takeOverMs) return 'write';
    if (owed.looks > 0) return 'look';
    owed.looks = 1;
    owed.dueMs = nowMs + this.#times.lookMs;
    return 'wait';
  }

  /** A look found that the backend does not have the blob yet. */
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
    owed.failures += 1;
    owed.dueMs = nowMs + this.#waitMs(owed.failures, afterMs);
    return owed.failures;
  }

  #waitMs(failures: number, afterMs = 0): number {
    const { firstRetryMs, maxRetryMs } = this.#times;
    return Math.max(backoffMs(failures, firstRetryMs, maxRetryMs), Math.min(afterMs, maxRetryMs));
  }

  #dueMs({ dueMs, place }: Owed): number {
    const untilMs = place === undefined ? undefined : this.#pauses.get(place)?.untilMs;
    return Math.max(dueMs, untilMs ?? dueMs);
  }

  #restMs(place: string, nowMs: number): number {
    return Math.max(0, (this.#pauses.get(place)?.untilMs ?? nowMs) - nowMs);
  }
}
