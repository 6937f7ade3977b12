import { CodedError, isCoded } from '@sepia/base/errors';

/** Nobody of `ids` answers anything, for so long now. */
export function nobodyAnswers(ids: readonly string[], silentMs: number): CodedError {
  return new CodedError('NO_PEERS', { message: `nobody answers of ${ids.join(', ')}`, detail: { silentMs } });
}

/** How long nobody had answered anything when this was thrown, in ms; 0 where it tells of something else. */
export function silentMsOf(error: unknown): number {
  const silentMs = isCoded(error, 'NO_PEERS') ? error.detail['silentMs'] : undefined;
  return typeof silentMs === 'number' ? silentMs : 0;
}
