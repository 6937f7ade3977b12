import { readFileSync } from 'node:fs';
import { CodedError, systemCode } from '../../errors.ts';

/** Certificates trusted for an upstream. @throws {CodedError} `CONFIG_INVALID` that names upstream and file */
export function readCa(file: string, upstream: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    throw new CodedError('CONFIG_INVALID', {
      message: `upstreams: ca of ${upstream}: ${file} cannot be read (${systemCode(cause)})`,
      cause,
    });
  }
}
