import { CodedError, isCoded } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { isDeniedElsewhere } from '@sepia/upstream/failure';

/** True for a failure that may pass: a stale answer is better than none. */
export function isPassing(error: unknown): boolean {
  return (
    (isCoded(error, 'BACKEND_DOWN') && !isDeniedElsewhere(error)) ||
    isCoded(error, 'UPSTREAM_LIMITED') ||
    isCoded(error, 'UPSTREAM_LIES')
  );
}

/** What asking an upstream failed with, as a coded error; our own deadline is its silence. A bug is thrown on. */
export function upstreamError(thrown: unknown, upstream: string): CodedError {
  if (isCoded(thrown)) return thrown;
  throwIfBug(thrown);
  if ((thrown as { name?: unknown } | null)?.name === 'TimeoutError') {
    const message = `upstream ${upstream} did not answer in time`;
    return new CodedError('BACKEND_DOWN', { message, detail: { upstream }, cause: thrown });
  }
  return new CodedError('INTERNAL', { cause: thrown });
}
