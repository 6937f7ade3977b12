import { CodedError, isCoded } from '@sepia/base/errors';
import { isBug } from '@sepia/base/failure';

/** What reading from a peer failed with: a fault of the peer's bytes is `WIRE_INVALID`, one of our own code `INTERNAL`. */
export function wireError(thrown: unknown): CodedError {
  if (isCoded(thrown)) return thrown;
  return new CodedError(isBug(thrown) ? 'INTERNAL' : 'WIRE_INVALID', { cause: thrown });
}
