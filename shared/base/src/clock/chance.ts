import { randomInt } from 'node:crypto';

/** A random number, 0 ≤ n < 1. Cores and whatever is tested take it as a parameter, so that a run can be played again. */
export function chance(): number {
  return randomInt(2 ** 32) / 2 ** 32;
}
