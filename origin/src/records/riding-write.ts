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

/** That they went to an owner, and what becomes of it. */
interface Sent {
  readonly answer: Promise<CountedAnswer<ToldClocks> | undefined>;
}

/**
 * Records that owners of their repository get with something else, and take under their clock, before they are written
 * by `QuorumSet.write`: that asks nobody again who answered so. An owner may have them although they are never written:
 * as after a write that failed.
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

  /** True once, for these changes under this membership: written again, they need a clock of then. */
  take(changes: readonly Change<T>[], epoch: number): boolean {
    if (this.#isTaken || epoch !== this.epoch) return false;
    this.#isTaken = true;
    return JSON.stringify(changes) === JSON.stringify(this.changes);
  }

  /** True for an owner under that membership which was not sent them yet. */
  mayRide(id: string, epoch: number): boolean {
    return epoch === this.epoch && this.#owners.has(id) && !this.#sent.has(id);
  }

  /** They are on their way to an owner; `answer` is undefined where it did not take them. */
  sent(id: string, answer: Promise<CountedAnswer<ToldClocks> | undefined>): void {
    readElsewhere(answer);
    this.#sent.set(id, { answer });
  }

  /** What an owner answered; undefined if it is to be sent them: it did not take them, or is slow. */
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
