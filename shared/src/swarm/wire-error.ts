import { CodedError, isCoded } from '../errors.ts';
import { isBug } from '../failure.ts';

/** What reading from a peer failed with: a fault of the peer's bytes is `WIRE_INVALID`, one of our own code `INTERNAL`. */
export function wireError(thrown: unknown): CodedError {
  if (isCoded(thrown)) return thrown;
  return new CodedError(isBug(thrown) ? 'INTERNAL' : 'WIRE_INVALID', { cause: thrown });
}
