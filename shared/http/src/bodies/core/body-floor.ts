import { CodedError } from '@sepia/base/errors';
import { BODY_GRACE_MS } from '../../deadlines/bodies.ts';

/** Least that a body brings on average; who has no more than a modem brings it. */
const LEAST_BYTES_PER_SECOND = 4 * 1024;

/**
 * Ends a body that never falls silent and never gets anywhere: who sends a byte now and then would hold what waits for it for as
 * long as he likes. `sizeBytes`: what came so far, in `tookMs`. @throws {CodedError} `TIMEOUT`
 */
export function demandPace(sizeBytes: number, tookMs: number): void {
  if (tookMs <= BODY_GRACE_MS + (1_000 * sizeBytes) / LEAST_BYTES_PER_SECOND) return;
  throw new CodedError('TIMEOUT', {
    message: `a body brought no more than ${sizeBytes} bytes in ${Math.round(tookMs / 1_000)} s`,
    detail: { sizeBytes, tookMs: Math.round(tookMs) },
  });
}
