import { backoffMs } from '@sepia/base/async/backoff';
import { boundedMs } from '@sepia/base/bounded-ms';
import { BLOB_TOO_LARGE, type ErrorCode, REDIRECT_REFUSED } from '@sepia/base/errors';
import { FETCH_RETRY_MS, MAX_FETCH_RETRY_MS, MOST_ASKED_MS } from '../../deadlines/upstreams.ts';

/** New bytes of one connection that are much, whatever is missing. */
const MUCH_BYTES = 64 * 1024;
/** So much of what was missing is much as well: the rest of a blob that is small. */
const MUCH_SHARE = 0.1;

/** What a connection failed with. */
export interface Failed {
  readonly code: ErrorCode;
  readonly detail?: Readonly<Record<string, unknown>>;
}

/** `certain`: asking the upstream again would bring the same answer. */
export function errorWeight({ code, detail }: Failed): 'certain' | 'passing' {
  switch (code) {
    case 'BLOB_UNKNOWN':
    case 'REPOSITORY_UNKNOWN':
    case 'UPSTREAM_DENIED':
    case 'UPSTREAM_UNKNOWN':
    case 'DRAINING':
      return 'certain';
    case 'BACKEND_DOWN':
      return [REDIRECT_REFUSED, BLOB_TOO_LARGE].includes(String(detail?.['reason'])) ? 'certain' : 'passing';
    default:
      return 'passing';
  }
}

/** Pause before the connection after `failures` failed ones in a row, in ms; what the upstream asked for wins, within bounds. */
export function retryDelayMs(failures: number, retryAfterSeconds: unknown): number {
  if (typeof retryAfterSeconds === 'number')
    return boundedMs(retryAfterSeconds * 1_000, FETCH_RETRY_MS, MOST_ASKED_MS);
  return backoffMs(failures + 1, FETCH_RETRY_MS, MAX_FETCH_RETRY_MS);
}

/**
 * How far a connection that was cut brought a blob on. `much`: as many further ones as are to come at this rate are few
 * beside what they carry, so there is no need to wait.
 */
export function advanceOf(newBytes: number, missingBytes: number): 'none' | 'little' | 'much' {
  if (newBytes <= 0) return 'none';
  return newBytes >= MUCH_BYTES || newBytes >= (missingBytes + newBytes) * MUCH_SHARE ? 'much' : 'little';
}
