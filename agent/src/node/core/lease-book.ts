import { MAX_LEASE_SEEDS } from '@sepia/cluster/api/lease';

/** What the next heartbeat to one tracker says of seeds. */
export interface LeaseChange {
  readonly add: readonly string[];
  readonly drop: readonly string[];
  /** The whole set after the change. */
  readonly set: readonly string[];
}

/**
 * Which blobs this node advertises: the most recently served ones, at most {@link MAX_LEASE_SEEDS}, each only to
 * its tracker and the next in order. Pure bookkeeping of what each tracker was told.
 */
export class LeaseBook {
  /** Digest → trackers it is told to; most recent last. */
  readonly #seeds = new Map<string, readonly string[]>();
  readonly #told = new Map<string, Set<string>>();

  /** A blob was completed or served. Returns the digest that no longer fits, if any. */
  touch(digest: string, trackerIds: readonly string[]): string | undefined {
    this.#seeds.delete(digest);
    this.#seeds.set(digest, trackerIds.slice(0, 2));
    if (this.#seeds.size <= MAX_LEASE_SEEDS) return undefined;
    const oldest = this.#seeds.keys().next().value!;
    this.#seeds.delete(oldest);
    return oldest;
  }

  drop(digest: string): void {
    this.#seeds.delete(digest);
  }

  /** What a tracker must be told; the caller confirms with {@link told} once it was. */
  change(trackerId: string): LeaseChange {
    const set = [...this.#seeds]
      .filter(([, trackers]) => trackers.includes(trackerId))
      .map(([digest]) => digest);
    const told = this.#told.get(trackerId) ?? new Set<string>();
    const now = new Set(set);
    return {
      set,
      add: set.filter((digest) => !told.has(digest)),
      drop: [...told].filter((digest) => !now.has(digest)),
    };
  }

  told(trackerId: string, change: LeaseChange, resync: boolean): void {
    this.#told.set(trackerId, resync ? new Set() : new Set(change.set));
  }
}
