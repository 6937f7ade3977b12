import { isBaseUrl } from '@sepia/base/config/units';
import { CodedError } from '@sepia/base/errors';

/** Reads an option's value as a whole number ≥ 0. @throws {CodedError} `CONFIG_INVALID` that names the option */
export function wholeNumber(option: string): (text: string) => number {
  return (text) => {
    if (!/^\d{1,9}$/.test(text))
      throw new CodedError('CONFIG_INVALID', { message: `${option}: "${text}" is not a whole number` });
    return Number(text);
  };
}

/** Reads an option's value as a base URL; a bare `host:port` means http. @throws {CodedError} `CONFIG_INVALID` that names the option */
export function urlOption(option: string): (text: string) => string {
  return (text) => {
    const url = text.includes('://') ? text : `http://${text}`;
    if (!isBaseUrl(url))
      throw new CodedError('CONFIG_INVALID', {
        message: `${option}: "${text}" is not a URL like http://127.0.0.1:17000`,
      });
    return new URL(url).origin;
  };
}

/** `embedded`, or the address of a PostgreSQL and a database in it. */
export function isRecordsEngine(text: string): boolean {
  return text === 'embedded' || /^postgres(?:ql)?:\/\/[^/]+\/./.test(text);
}
