import { OVER } from '@sepia/base/async/over';
import { readElsewhere } from '@sepia/base/failure';
import { delay } from '@sepia/base/lifecycle';
import type { Shard } from '@sepia/cluster/ring';
import type { ToldClocks } from '@sepia/records/core/set-protocol';
import { QUICK_MS } from '../deadlines/members.ts';
import type { CountedAnswer } from './ask-counted.ts';

/** What is written to a set: a value, or a tombstone. */
export interface Change<T> {
  readonly key: readonly string[];
  readonly value?: T | undefined;
}

/** One delivery to an owner, and its answer. */
interface Sent {
  readonly answer: Promise<CountedAnswer<ToldClocks> | undefined>;
}

/**
 * Records that travel to owners of their repository inside another call (such as a blob's copy), before `QuorumSet.write`
 * writes them. That then counts the owners that already answered, and does not ask them again. As after a write that failed,
 * an owner may keep records that are never written to a quorum.
 */
export class RidingWrite<T> {
  readonly atMs: number;
  readonly changes: readonly Change<T>[];
  readonly epoch: number;
  readonly #owners: ReadonlySet<string>;
  #isTaken = false;
  readonly #sent = new Map<string, Sent>();

  constructor(atMs: number, changes: readonly Change<T>[], owners: Shard) {
    this.atMs = atMs;
    this.changes = changes;
    this.epoch = owners.epoch;
    this.#owners = new Set(owners.sets.flat());
  }

  /**
   * Claims the deliveries for a write: true once, for the same changes under the same membership. A second write needs a new
   * clock.
   */
  take(changes: readonly Change<T>[], epoch: number): boolean {
    if (this.#isTaken || epoch !== this.epoch) return false;
    this.#isTaken = true;
    return JSON.stringify(changes) === JSON.stringify(this.changes);
  }

  /** True if `id` is an owner under that membership and was not sent the records yet. */
  mayRide(id: string, epoch: number): boolean {
    return epoch === this.epoch && this.#owners.has(id) && !this.#sent.has(id);
  }

  /** Notes a delivery to an owner; `answer` resolves to undefined where the owner did not take the records. */
  sent(id: string, answer: Promise<CountedAnswer<ToldClocks> | undefined>): void {
    readElsewhere(answer);
    this.#sent.set(id, { answer });
  }

  /** The answer of an owner; undefined if the records must be sent to it: it did not take them, or is slow. */
  async answerOf(id: string): Promise<CountedAnswer<ToldClocks> | undefined> {
    const sent = this.#sent.get(id);
    if (sent === undefined) return undefined;
    const over = new AbortController();
    const late = delay(QUICK_MS, over.signal).then(() => undefined);
    try {
      return await Promise.race([sent.answer, late]);
    } finally {
      readElsewhere(late);
      over.abort(OVER);
    }
  }
}
