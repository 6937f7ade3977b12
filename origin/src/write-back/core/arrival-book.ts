import { OwedPlan } from '../../backend/core/owed-plan.ts';
import {
  ARRIVAL_LOOK_MS,
  ARRIVAL_READ_MS,
  ARRIVAL_RETRY_MS,
  MAX_ARRIVAL_RETRY_MS,
} from '../../deadlines/upstreams.ts';

const TIMES = {
  lookMs: ARRIVAL_LOOK_MS,
  takeOverMs: Number.POSITIVE_INFINITY,
  firstRetryMs: ARRIVAL_RETRY_MS,
  maxRetryMs: MAX_ARRIVAL_RETRY_MS,
};
/** A newcomer that did not come after so many looks (about two hours) makes room for others, where there are many. */
const MAX_LOOKS = 12;

/**
 * Which pushed blobs are looked for at the registry behind, and when: a pure book, held within `maxKnown`. Half of it is
 * for newcomers. The rest goes round through what is on record, so that blobs that never come hold up no others.
 */
export class ArrivalBook<D extends string> {
  readonly #plan: OwedPlan;
  readonly #maxKnown: number;
  readonly #looks = new Map<D, number>();
  #after: D | undefined;
  #readAtMs: number | undefined;
  #isRead = false;

  constructor(options: { readonly maxKnown: number }) {
    this.#maxKnown = options.maxKnown;
    this.#plan = new OwedPlan({ times: TIMES, maxKnown: options.maxKnown });
  }

  get size(): number {
    return this.#plan.size;
  }

  /** A blob was pushed: it is due at once, unless it is known already; without room it stays on record. */
  added(digest: D, sizeBytes: number, nowMs: number): void {
    if (!this.#plan.add(digest, sizeBytes, nowMs)) this.#isRead = false;
  }

  /** Where to go on reading the record; undefined while there is nothing to read, or no room. */
  readFrom(nowMs: number): { readonly after: D | undefined } | undefined {
    if (this.#isRead || this.#plan.size >= this.#maxKnown / 2) return undefined;
    if (this.#readAtMs !== undefined && nowMs - this.#readAtMs < ARRIVAL_READ_MS) return undefined;
    this.#readAtMs = nowMs;
    return { after: this.#after };
  }

  /** One from record; false if it is the last one that has room in this round. */
  read(digest: D, sizeBytes: number, nowMs: number): boolean {
    this.#after = digest;
    // It was looked for before, as a newcomer: where there are many, one look is enough for this round.
    if (!this.#looks.has(digest)) this.#looks.set(digest, MAX_LOOKS - 1);
    this.#plan.add(digest, sizeBytes, nowMs);
    return this.#plan.size < this.#maxKnown / 2;
  }

  /** The end of the record. `fromStart`: it was read as a whole, and nothing of it was left out. */
  readToEnd(fromStart: boolean): void {
    this.#after = undefined;
    this.#isRead = fromStart;
  }

  due(nowMs: number): D[] {
    return this.#plan.due(nowMs) as D[];
  }

  nextMs(nowMs: number): number | undefined {
    return this.#plan.nextMs(nowMs);
  }

  /** False: others are looked for first, it was pushed a moment ago. */
  mayLook(digest: D, nowMs: number): boolean {
    return this.#plan.step(digest, false, nowMs) !== 'wait';
  }

  /** Drops a blob: the registry behind has it, or this origin no longer owes it. */
  done(digest: D): void {
    this.#looks.delete(digest);
    this.#plan.done(digest);
  }

  /** A look found that the registry behind does not have the blob yet. */
  notYet(digest: D, nowMs: number): void {
    const looks = (this.#looks.get(digest) ?? 0) + 1;
    this.#looks.set(digest, looks);
    const isCrowded = !this.#isRead || this.#plan.size >= this.#maxKnown / 2;
    if (looks >= MAX_LOOKS && isCrowded) {
      this.done(digest);
      // It is still on record, and its turn comes again.
      this.#isRead = false;
    } else this.#plan.notYet(digest, nowMs);
  }

  /** A look failed: whether the blob is there is not known. */
  failed(digest: D, nowMs: number): void {
    this.#plan.failed(digest, undefined, nowMs);
  }
}
