import { CodedError } from '@sepia/shared/errors';

/** Reads an option's value as a whole number ≥ 0. @throws {CodedError} `CONFIG_INVALID` that names the option */
export function wholeNumber(option: string): (text: string) => number {
  return (text) => {
    if (!/^\d{1,9}$/.test(text))
      throw new CodedError('CONFIG_INVALID', { message: `${option}: "${text}" is not a whole number` });
    return Number(text);
  };
}
