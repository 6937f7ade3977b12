import { CodedError, isCoded } from '@sepia/base/errors';

const REASON = 'no-platform';

/** An image has none of the platforms that are wanted. */
export function nothingWanted(platforms: readonly string[]): CodedError {
  return new CodedError('REQUEST_INVALID', {
    message:
      platforms.length === 0
        ? 'the image has no platform, only attestations'
        : `the image has no platform of ${platforms.join(', ')}`,
    detail: { reason: REASON },
  });
}

/** Whether an image was refused for its platforms alone. */
export function isNothingWanted(error: unknown): error is CodedError {
  return isCoded(error, 'REQUEST_INVALID') && error.detail['reason'] === REASON;
}
