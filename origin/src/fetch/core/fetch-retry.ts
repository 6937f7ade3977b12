import { backoffMs } from '@sepia/base/async/backoff';
import type { ErrorCode } from '@sepia/base/errors';

const FIRST_DELAY_MS = 100;
const MAX_DELAY_MS = 2_000;

/** `certain`: asking the upstream again would bring the same answer. */
export function errorWeight(code: ErrorCode): 'certain' | 'passing' {
  switch (code) {
    case 'BLOB_UNKNOWN':
    case 'REPOSITORY_UNKNOWN':
    case 'UPSTREAM_DENIED':
    case 'UPSTREAM_UNKNOWN':
    case 'DRAINING':
      return 'certain';
    default:
      return 'passing';
  }
}

/** Pause before the connection after `failures` failed ones in a row, in ms; what the upstream asked for wins. */
export function retryDelayMs(failures: number, retryAfterSeconds: unknown): number {
  if (typeof retryAfterSeconds === 'number') return retryAfterSeconds * 1000;
  return backoffMs(failures + 1, FIRST_DELAY_MS, MAX_DELAY_MS);
}
