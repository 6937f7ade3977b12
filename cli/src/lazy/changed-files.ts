import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readFile, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { systemCode } from '@sepia/base/errors';
import { diskFiles } from '@sepia/store/files/disk-files';
import { replaceWhole } from '@sepia/store/files/file-port';
import { OUR_MARK } from './containerd-toml.ts';

/** A file that is to be written, and what is there now. */
export interface Change {
  readonly path: string;
  readonly before: string | undefined;
  readonly after: string;
}

/** Beside a file that we changed: what it was before. */
export const BACKUP = '.before-sepia';
/** Beside a config that we changed: SHA-256 of what we wrote, to know whether it was edited since. */
export const WROTE = '.sepia-wrote';

/** Writes the changes: each file whole or not at all. What was there before is kept beside it, once. */
export async function applyChanges(changes: readonly Change[]): Promise<void> {
  for (const { path, before, after } of changes) {
    await mkdir(dirname(path), { recursive: true, mode: 0o755 });
    if (before !== undefined && !before.startsWith(OUR_MARK) && !existsSync(path + BACKUP))
      await write(path + BACKUP, before);
    await write(path, after);
    await write(path + WROTE, `${hashOf(after)}\n`);
  }
}

/**
 * Takes a change away: the backup becomes the file again, byte for byte. One that was edited since keeps its edits.
 * `isOurs` tells more texts that are as we left them.
 * @returns what was done, one line; undefined where there was nothing to do
 */
export async function restoreFile(
  path: string,
  isOurs: (text: string, backup: string) => boolean = () => false,
): Promise<string | undefined> {
  const [backup, current] = [await textOf(path + BACKUP), await textOf(path)];
  if (current === undefined && backup === undefined) return undefined;
  const isWritten = (await textOf(path + WROTE))?.trim() === hashOf(current ?? '');
  let done: string;
  if (backup === undefined) {
    if (!isWritten || current?.startsWith(OUR_MARK) !== true) return undefined;
    await rm(path);
    done = `${path}: removed`;
  } else if (isWritten || current === backup || (current !== undefined && isOurs(current, backup))) {
    await rename(path + BACKUP, path);
    done = `${path}: as before`;
  } else return `${path}: was edited since, left as it is; what it was before is in ${path}${BACKUP}`;
  await rm(path + WROTE, { force: true });
  return done;
}

function hashOf(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

async function write(path: string, text: string): Promise<void> {
  const target = { path, temporary: `${path}.sepia-new`, durable: true };
  await replaceWhole(diskFiles, target, Buffer.from(text, 'utf8'));
}

/** A file's text; undefined where it is not there. */
export async function textOf(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw error;
    return undefined;
  }
}
