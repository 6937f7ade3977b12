import { backoffMs } from '@sepia/base/async/backoff';
import { LEASE_HEARTBEATS } from '@sepia/cluster/api/lease';
import {
  FIRST_HEARTBEAT_MS,
  MAX_HEARTBEAT_MS,
  MAX_RETRY_MS,
  MIN_LEASE_MS,
  WATCHED_HEARTBEAT_MS,
} from '../../deadlines.ts';

/** What a tracker said of the next heartbeat. */
export interface BeatAnswer {
  readonly heartbeatMs: number;
  readonly watchedMs?: number | undefined;
  /** It wants more at once: the whole set, or the rest of a long message. */
  readonly hasMore: boolean;
}

/**
 * When one tracker is told next. Trackers stretch their heartbeats with the number of nodes; one that fails is
 * asked less and less often, up to what it asked for or 10 s, so that thousands do not hold it down as it comes back.
 */
export class BeatPace {
  #toldMs = FIRST_HEARTBEAT_MS;
  #failures = 0;

  /** How long the next lease is to last, ms. */
  get leaseMs(): number {
    return Math.max(MIN_LEASE_MS, this.#toldMs * LEASE_HEARTBEATS);
  }

  /** Ms to the next heartbeat; `isWatched`: swarms run, or commands have news. */
  answered(answer: BeatAnswer, isWatched: boolean): number {
    const { heartbeatMs, watchedMs = WATCHED_HEARTBEAT_MS, hasMore } = answer;
    this.#failures = 0;
    this.#toldMs = Math.min(MAX_HEARTBEAT_MS, heartbeatMs);
    if (hasMore) return FIRST_HEARTBEAT_MS / 4;
    return isWatched ? Math.min(watchedMs, this.#toldMs) : this.#toldMs;
  }

  /** Notes a failed heartbeat. @returns the wait until the next one, in ms */
  failed(): number {
    const ceilingMs = Math.max(FIRST_HEARTBEAT_MS, Math.min(this.#toldMs, MAX_RETRY_MS));
    this.#failures += 1;
    return backoffMs(this.#failures, FIRST_HEARTBEAT_MS, ceilingMs);
  }
}
