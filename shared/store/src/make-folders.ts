import { mkdir, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { CodedError, systemCode } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';

/**
 * Makes a folder and those above it, one by one: Node's recursive form never ends where a file system refuses new
 * folders with ENOENT (`/proc`). `key` names the config key or option in the error.
 * @throws {CodedError} `CONFIG_INVALID`
 */
export async function makeFolders(path: string, key: string, mode = 0o750): Promise<void> {
  const missing: string[] = [];
  for (let at = path; ; at = dirname(at)) {
    const found = await stat(at).catch((cause: unknown) => {
      throwIfBug(cause);
      return refuse(cause, path, key);
    });
    if (found?.isDirectory() === true) break;
    if (found !== undefined || dirname(at) === at) throw invalid(path, key, 'a part of it is not a folder');
    missing.unshift(at);
  }
  for (const folder of missing) {
    await mkdir(folder, { mode }).catch((cause: unknown) => {
      throwIfBug(cause);
      if (systemCode(cause) !== 'EEXIST') throw invalid(path, key, `${systemCode(cause)}`, cause);
    });
  }
}

function refuse(cause: unknown, path: string, key: string): undefined {
  if (systemCode(cause) === 'ENOENT') return undefined;
  throw invalid(
    path,
    key,
    systemCode(cause) === 'ENOTDIR' ? 'a part of it is not a folder' : `${systemCode(cause)}`,
    cause,
  );
}

function invalid(path: string, key: string, why: string, cause?: unknown): CodedError {
  return new CodedError('CONFIG_INVALID', {
    message: `${key}: folder ${path} cannot be made (${why}); choose another`,
    cause,
  });
}
