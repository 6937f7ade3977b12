import { CodedError, isCoded } from '@sepia/base/errors';
import { parseObject } from './lossless-json.ts';

const REASON = 'no-platform';

/** Is the image of this config wanted? One that names no platform is of any. */
export function isConfigOf(config: Uint8Array, wanted: readonly string[] | undefined): boolean {
  const { os, architecture, variant } = parseObject(config) ?? {};
  if (wanted === undefined || typeof os !== 'string' || typeof architecture !== 'string') return true;
  const text = [os, architecture, ...(typeof variant === 'string' ? [variant] : [])].join('/');
  return wanted.some((one) => text === one || text.startsWith(`${one}/`));
}

export function nothingWanted(platforms: readonly string[]): CodedError {
  return new CodedError('REQUEST_INVALID', {
    message: `the image has no platform of ${platforms.join(', ')}`,
    detail: { reason: REASON },
  });
}

/** Whether an image was refused for its platforms alone. */
export function isNothingWanted(error: unknown): error is CodedError {
  return isCoded(error, 'REQUEST_INVALID') && error.detail['reason'] === REASON;
}
