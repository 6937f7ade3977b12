import { MOST_NEWS_GAP_MS } from '../../deadlines.ts';

/** At most this share of the time that the blob has taken so far: what is short is not held up. */
const GAP_SHARE = 0.05;

/**
 * How long a member that was told of new pieces waits before it asks for more, ms: pieces of a fast blob are told of together, not
 * one by one to each. Not for what readers of ranges wait for. `elapsedMs`: since it began to ask.
 */
export function newsGapMs(elapsedMs: number): number {
  return Math.min(MOST_NEWS_GAP_MS, Math.max(0, elapsedMs) * GAP_SHARE);
}
