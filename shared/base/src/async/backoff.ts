/** 2^30 × 1 ms is 12 days: beyond it the ceiling decides alone, and no number overflows. */
const MAX_DOUBLINGS = 30;

/**
 * How long to wait after `failures` in a row, in ms: `firstMs` after the first, twice as long after each further one, at
 * most `maxMs`; 0 after none. Pure; callers that must not come in step multiply by their own chance.
 */
export function backoffMs(failures: number, firstMs: number, maxMs: number): number {
  if (!(failures >= 1)) return 0;
  return Math.min(maxMs, firstMs * 2 ** Math.min(MAX_DOUBLINGS, failures - 1));
}
