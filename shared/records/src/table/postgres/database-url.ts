import { readFileSync } from 'node:fs';
import { CodedError, systemCode } from '@sepia/base/errors';
import { tryParse } from '@sepia/base/failure';

/**
 * The address of the records' database that a file holds. `named`: the key or flag that names the file.
 * @throws {CodedError} `CONFIG_INVALID`, never with what the file holds
 */
export function readDatabaseUrl(file: string, named: string): string {
  const read = tryParse(() => readFileSync(file, 'utf8').trim());
  if (!read.ok) throw invalid(named, `${file} cannot be read (${systemCode(read.cause)})`);
  const url = tryParse(() => new URL(read.value));
  if (!url.ok || !/^postgres(?:ql)?:$/.test(url.value.protocol) || url.value.pathname.length < 2)
    throw invalid(named, `${file} holds no address such as postgres://user:password@host:5432/database`);
  return read.value;
}

function invalid(named: string, message: string): CodedError {
  return new CodedError('CONFIG_INVALID', { message: `${named}: ${message}` });
}
