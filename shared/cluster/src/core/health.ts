import { backoffMs } from '@sepia/base/async/backoff';
import { candidatesOf, type Ownership } from '../ring.ts';

/** A member that fails may have answered this long ago until it counts as silent, in ms. */
export const PATIENCE_MS = 5_000;

/** How long a member that failed is passed over, in ms: at first, doubling with each further failure up to `maxMs`. */
export interface Rest {
  readonly firstMs: number;
  readonly maxMs: number;
}

/** For who asks suspects by itself: one that failed is passed over until it answers. */
export const UNTIL_IT_ANSWERS: Rest = { firstMs: Number.POSITIVE_INFINITY, maxMs: Number.POSITIVE_INFINITY };

interface Pulse {
  readonly lastOkMs: number;
  /** In a row. */
  readonly failures: number;
  /** When the first of them was noted. */
  readonly failedMs: number;
  readonly suspectUntilMs: number;
}

const UNHEARD: Pulse = { lastOkMs: Number.NEGATIVE_INFINITY, failures: 0, failedMs: 0, suspectUntilMs: 0 };

/**
 * When each member answered last, and who fails. Health never changes who owns what: it only orders the tries and names
 * stand-ins (docs/adr/0025-changes-of-the-ring.md). One that was never heard of counts as healthy. Pure: the clock is
 * passed in.
 */
export class Health {
  readonly #nowMs: () => number;
  readonly #rest: Rest;
  readonly #pulses = new Map<string, Pulse>();

  constructor(nowMs: () => number, rest: Rest) {
    this.#nowMs = nowMs;
    this.#rest = rest;
  }

  /** The member answered anything at all. True if it had failed before. */
  answered(id: string): boolean {
    const hadFailed = this.#of(id).failures > 0;
    this.#pulses.set(id, { ...UNHEARD, lastOkMs: this.#nowMs() });
    return hadFailed;
  }

  /** The member was silent or could not be reached. */
  failed(id: string): void {
    const { lastOkMs, failures: before, failedMs: sinceMs } = this.#of(id);
    const failures = before + 1;
    const failedMs = before === 0 ? this.#nowMs() : sinceMs;
    const restMs = backoffMs(failures, this.#rest.firstMs, this.#rest.maxMs);
    this.#pulses.set(id, { lastOkMs, failures, failedMs, suspectUntilMs: this.#nowMs() + restMs });
  }

  isSuspect(id: string): boolean {
    return this.#of(id).suspectUntilMs > this.#nowMs();
  }

  /**
   * True for a suspect that has failed for {@link PATIENCE_MS}, without an answer: to wait longer for it than for others is in
   * vain. One that was slow a moment ago is no such.
   */
  isGone(id: string): boolean {
    return this.isSuspect(id) && this.#nowMs() - this.#of(id).failedMs >= PATIENCE_MS;
  }

  /** Those that are passed over now. */
  get suspects(): string[] {
    return [...this.#pulses.keys()].filter((id) => this.isSuspect(id));
  }

  /** The same ids: those not suspected first, both parts in their given order. */
  order(ids: readonly string[]): string[] {
    return this.orderBy(ids, (id) => id);
  }

  /** As {@link order}, of whatever has an id. */
  orderBy<T>(all: readonly T[], idOf: (one: T) => string): T[] {
    const isSuspect = (one: T): boolean => this.isSuspect(idOf(one));
    return [...all.filter((one) => !isSuspect(one)), ...all.filter(isSuspect)];
  }

  /** All that could hold an acknowledged copy of a key, in the order to ask them: as {@link order}, of owners, then stand-ins. */
  tries(placement: Pick<Ownership, 'owners' | 'standIns'>): string[] {
    return this.order(candidatesOf(placement));
  }

  /** The owner that does for all what is done once: the first of {@link order}. A hint: two may disagree who that is. */
  leader({ owners }: Pick<Ownership, 'owners'>): string {
    return this.order(owners)[0]!;
  }

  /** True if the member answered within the last `ms`. */
  aliveWithin(id: string, ms: number): boolean {
    return this.#of(id).lastOkMs >= this.#nowMs() - ms;
  }

  /** Those of `ids` of which nothing good was heard within the last `ms`: a probe must tell. */
  unheard(ids: readonly string[], ms: number): string[] {
    return ids.filter((id) => this.isSuspect(id) || !this.aliveWithin(id, ms));
  }

  /**
   * Those of `ids` that never answered, or failed since they did and last answered more than {@link PATIENCE_MS} ago:
   * one slow answer silences nobody, and the next answer ends it.
   */
  silent(ids: readonly string[]): string[] {
    return ids.filter((id) => {
      const { lastOkMs, failures } = this.#of(id);
      return (failures > 0 || lastOkMs === Number.NEGATIVE_INFINITY) && !this.aliveWithin(id, PATIENCE_MS);
    });
  }

  #of(id: string): Pulse {
    return this.#pulses.get(id) ?? UNHEARD;
  }
}
