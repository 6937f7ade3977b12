import { CodedError } from '@sepia/base/errors';
import { isBug, logFailure } from '@sepia/base/failure';
import type { Logger } from '@sepia/base/log';
import type { BlobName } from '@sepia/base/names/blob-name';
import { toCoded } from '@sepia/http/app';
import type { FetchOptions } from './fetch-parts.ts';

/** The upstream's bytes do not have the digest that was asked for; `piece`: it sent another one before. */
export function liesError({ digest, upstream }: BlobName, piece?: number): CodedError {
  if (piece === undefined) return new CodedError('UPSTREAM_LIES', { detail: { digest, upstream } });
  return new CodedError('UPSTREAM_LIES', {
    message: 'upstream sent other bytes than before',
    detail: { digest, upstream, piece },
  });
}

/** The upstream states another size for a blob than before. */
export function wrongSize(name: BlobName, expected: number, found: number | undefined): CodedError {
  return new CodedError('UPSTREAM_LIES', {
    message: 'upstream states another size for this blob than before',
    detail: { digest: name.digest, expected, found: found ?? null },
  });
}

/** The upstream states no size, and the one that a manifest told is not the blob's: it is asked again without it. */
export function doubtfulSize(name: BlobName, told: number | undefined, cause: CodedError): CodedError {
  return new CodedError('STALE_ATTEMPT', {
    message: 'upstream states no size for this blob, and what it sends does not fit the one in its manifest',
    detail: { digest: name.digest, told: told ?? null, upstream: name.upstream },
    cause,
  });
}

/** Nobody reads what is fetched for readers alone. */
export function unwantedError(): CodedError {
  return new CodedError('NO_PEERS', { message: 'nobody reads it any more' });
}

/** Nothing came from the upstream for too long, or next to nothing; `thinking`: it had not begun to answer. */
export function silentError(
  name: BlobName,
  options: Pick<FetchOptions, 'progressMs' | 'firstByteMs'>,
  thinking: boolean,
): CodedError {
  const ms = thinking ? Math.max(options.progressMs, options.firstByteMs) : options.progressMs;
  return new CodedError('BACKEND_DOWN', {
    message: `nothing of use from the upstream within ${ms / 1000} s`,
    detail: { upstream: name.upstream, digest: name.digest },
  });
}

/** What a part of a fetch failed with, as a coded error; a bug is logged. */
export function failedWith(cause: unknown, name: BlobName, log: Logger): CodedError {
  if (isBug(cause)) logFailure(log, cause, 'fetch failed', { digest: name.digest });
  return toCoded(cause);
}
