import { LEASE_HEARTBEATS, MAX_LEASE_MS } from '@sepia/cluster/api/lease';
import { MIN_REJOIN_MS, MIN_WATCHED_MS, MOST_NEWS_GAP_MS } from '../../deadlines.ts';

/** Heartbeats that a tracker is sent in one second, all nodes together: a small part of what one core answers. */
const HEARTBEATS_PER_SECOND = 500;
/** Heartbeats in one second of nodes that run a swarm or a command. */
const WATCHED_PER_SECOND = 500;
/** Joins that one core bears beside them. */
const JOINS_PER_SECOND = 1_000;
/** Answers with news of open blobs, to all who wait for one of them. */
const NEWS_PER_SECOND = 500;
/** So few are told of each piece at once. */
const FEW_WAITING = 32;

/** Times that grow with the number of nodes, so that what they send together stays the same; all in ms. */
export interface Pace {
  /** A node with nothing to tell. */
  readonly heartbeatMs: number;
  /** A node with a running swarm or an unfinished command. */
  readonly watchedMs: number;
  /** Within this a node is heard of again, else it is gone. */
  readonly leaseMs: number;
}

/** How often `nodes` nodes send heartbeats where a few would every `configuredMs`. */
export function paceOf(nodes: number, configuredMs: number): Pace {
  const heartbeatMs = Math.max(configuredMs, (nodes * 1_000) / HEARTBEATS_PER_SECOND);
  const watchedMs = Math.min(heartbeatMs, Math.max(MIN_WATCHED_MS, (nodes * 1_000) / WATCHED_PER_SECOND));
  return { heartbeatMs, watchedMs, leaseMs: heartbeatMs * LEASE_HEARTBEATS };
}

/**
 * How long a lease lasts, ms, of a node that asked for `askedMs` before it knew `pace`: it outlasts the heartbeat that it
 * is told now.
 */
export function leaseMsOf(askedMs: number, pace: Pace): number {
  return Math.min(MAX_LEASE_MS, Math.max(askedMs, pace.leaseMs));
}

/** How long a node that lacks pieces waits before it joins again, with so many that download the same. */
export function rejoinMs(leechers: number): number {
  return Math.max(MIN_REJOIN_MS, (leechers * 1_000) / JOINS_PER_SECOND);
}

/**
 * News of an open blob are told no sooner than so long after they were asked for, ms, with so many others that wait for them: each
 * piece told to each of many at once would take all of a tracker.
 */
export function newsGapMs(waiting: number): number {
  return Math.min(MOST_NEWS_GAP_MS, (Math.max(0, waiting - FEW_WAITING) * 1_000) / NEWS_PER_SECOND);
}
