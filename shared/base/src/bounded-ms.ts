/** Longest time that Node's timers take, in ms (2³¹ − 1): beyond it they fire at once. */
export const MAX_TIMER_MS = 2 ** 31 - 1;

/**
 * A time as timers and deadlines take it: whole ms, rounded up, within `leastMs` and `mostMs`; what is no number counts
 * as the least. Every time that was measured, computed or told by another passes through here before it is waited for.
 */
export function boundedMs(ms: number, leastMs = 0, mostMs = MAX_TIMER_MS): number {
  const least = Math.ceil(leastMs);
  const most = Math.max(least, Math.floor(Math.min(mostMs, MAX_TIMER_MS)));
  return Number.isNaN(ms) ? least : Math.min(most, Math.max(least, Math.ceil(ms)));
}
