import { isCoded, isUpstreamFailure } from '@sepia/base/errors';

/**
 * True when a member is no use to us: it gave no answer at all, or refuses our signature (another key, or a clock that
 * is off), as dead as the other.
 */
export function isSilence(error: unknown): boolean {
  if (isCoded(error, 'SIGNATURE_INVALID')) return true;
  return isCoded(error, 'PEER_HTTP') && error.detail['status'] === undefined;
}

/** True for an answer that no other member would better. */
export function isDefinite(error: unknown): boolean {
  return (
    isCoded(error) &&
    !error.facts.retryable &&
    error.code !== 'INTERNAL' &&
    error.code !== 'SIGNATURE_INVALID'
  );
}

/**
 * True for an answer about content of an upstream that ends the search: definite, or how the upstream failed, as the origin
 * that asked it tells. That one has waited as long as anybody may; each other would wait as long once more.
 */
export function isDecisive(error: unknown): boolean {
  return isDefinite(error) || isUpstreamFailure(error);
}
