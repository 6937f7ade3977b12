import { isBaseUrl, withoutAccount } from '@sepia/base/config/units';
import { CodedError } from '@sepia/base/errors';
import { readDatabaseUrl } from '@sepia/records/table/postgres/database-url';

/** Reads an option's value as a whole number from `least` to `most`. @throws {CodedError} `CONFIG_INVALID` that names the option */
export function wholeNumber(
  option: string,
  least = 0,
  most = Number.MAX_SAFE_INTEGER,
): (text: string) => number {
  return (text) => {
    if (!/^\d{1,9}$/.test(text)) {
      const why = /^\d+$/.test(text) ? 'is too large' : 'is not a whole number';
      throw new CodedError('CONFIG_INVALID', { message: `${option}: "${text}" ${why}` });
    }
    const value = Number(text);
    if (value < least || value > most)
      throw new CodedError('CONFIG_INVALID', {
        message: `${option}: ${value} is not between ${least} and ${most}`,
      });
    return value;
  };
}

/** Reads an option's value as a base URL; a bare `host:port` means http. @throws {CodedError} `CONFIG_INVALID` that names the option */
export function urlOption(option: string): (text: string) => string {
  return (text) => {
    const url = text.includes('://') ? text : `http://${text}`;
    if (!isBaseUrl(url))
      throw new CodedError('CONFIG_INVALID', {
        message: `${option}: "${withoutAccount(text)}" is not a URL like http://127.0.0.1:17000`,
      });
    return new URL(url).origin;
  };
}

/** What `--url-file` is for. */
export const URL_FILE_HELP =
  'file with postgres://user:password@host:port/database; that address may be given in place of postgres, but then everybody who lists processes sees it';

/**
 * Where records rest, of what stands on the command line: `embedded`, or the address of a PostgreSQL and a database in it. For
 * `postgres` the address is in `urlFile` (`--url-file`), so that no password stands where the processes of a machine are listed.
 * `flag`: the option, for messages. @throws {CodedError} `CONFIG_INVALID`
 */
export function recordsEngineOf(text: string, urlFile: string | undefined, flag: string): string {
  if (text === 'postgres' && urlFile !== undefined) return readDatabaseUrl(urlFile, '--url-file');
  if (text === 'embedded' || /^postgres(?:ql)?:\/\/[^/]+\/./.test(text)) return text;
  const why =
    text === 'postgres'
      ? 'postgres needs --url-file, a file with its address'
      : 'is neither embedded, nor postgres, nor an address such as postgres://user@host:5432/database';
  throw new CodedError('CONFIG_INVALID', { message: `${flag}: ${why}` });
}
