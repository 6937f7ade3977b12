import { CodedError, isCoded } from '@sepia/base/errors';

/** The error when none of `ids` has answered for `silentMs`. */
export function nobodyAnswers(ids: readonly string[], silentMs: number): CodedError {
  return new CodedError('NO_PEERS', { message: `nobody answers of ${ids.join(', ')}`, detail: { silentMs } });
}

/** The `silentMs` of such an error; 0 for any other error. */
export function silentMsOf(error: unknown): number {
  const silentMs = isCoded(error, 'NO_PEERS') ? error.detail['silentMs'] : undefined;
  return typeof silentMs === 'number' ? silentMs : 0;
}
