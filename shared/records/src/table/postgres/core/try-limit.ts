import { LEAST_TRY_MS } from '../../../deadlines.ts';

/**
 * How long one try may take of the `leftMs` until the deadline: half, so that a connection that hangs leaves time for
 * another, and a database that is only slow gets most of it; all, where half is too little for a try. Pure.
 */
export function tryLimitMs(leftMs: number): number {
  return Math.max(1, leftMs < 2 * LEAST_TRY_MS ? leftMs : leftMs / 2);
}
