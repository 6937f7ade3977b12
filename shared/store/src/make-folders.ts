import { accessSync, constants, statSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { CodedError, systemCode } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';

const NO_FOLDER = 'a part of it is not a folder';

/**
 * Makes a folder and those above it, one by one: Node's recursive form never ends where a file system refuses new
 * folders with ENOENT (`/proc`). `key` names the config key or option in the error.
 * @throws {CodedError} `CONFIG_INVALID`
 */
export async function makeFolders(path: string, key: string, mode = 0o750): Promise<void> {
  for (const folder of missingFolders(path, key)) {
    await mkdir(folder, { mode }).catch((cause: unknown) => {
      throwIfBug(cause);
      if (systemCode(cause) !== 'EEXIST') throw invalid(path, key, `${systemCode(cause)}`, cause);
    });
  }
}

/** Refuses what {@link makeFolders} could not make; makes nothing. @throws {CodedError} `CONFIG_INVALID` */
export function checkFolders(path: string, key: string): void {
  const [first] = missingFolders(path, key);
  if (first === undefined) return;
  orRefused(path, key, () => accessSync(dirname(first), constants.W_OK | constants.X_OK));
}

/** Folders of a path that are not there, the uppermost first. */
function missingFolders(path: string, key: string): string[] {
  const missing: string[] = [];
  for (let at = path; ; at = dirname(at)) {
    const found = orRefused(path, key, () => statSync(at, { throwIfNoEntry: false }));
    if (found?.isDirectory() === true) return missing;
    if (found !== undefined || dirname(at) === at) throw invalid(path, key, NO_FOLDER);
    missing.unshift(at);
  }
}

function orRefused<T>(path: string, key: string, look: () => T): T {
  try {
    return look();
  } catch (cause) {
    throwIfBug(cause);
    throw invalid(path, key, systemCode(cause) === 'ENOTDIR' ? NO_FOLDER : `${systemCode(cause)}`, cause);
  }
}

function invalid(path: string, key: string, why: string, cause?: unknown): CodedError {
  return new CodedError('CONFIG_INVALID', {
    message: `${key}: folder ${path} cannot be made (${why}); choose another`,
    cause,
  });
}
