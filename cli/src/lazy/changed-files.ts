import { createHash } from 'node:crypto';
import { chmod, chown, mkdir, readFile, realpath, rename, rm, rmdir, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { systemCode } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { diskFiles } from '@sepia/store/files/disk-files';
import { replaceWhole } from '@sepia/store/files/file-port';
import { HOSTS_MARK, OUR_MARK } from './containerd-toml.ts';

/** A file that is to be written, and what is there now. */
export interface Change {
  readonly path: string;
  readonly before: string | undefined;
  readonly after: string;
}

/** Beside a file that we changed: what it was before. */
export const BACKUP = '.before-sepia';
/**
 * Beside a config that we changed: SHA-256 of what we wrote, to know whether it was edited since. While a text of ours is
 * replaced by another both are named, a line each: whichever is there, we wrote it. Then the uppermost folder that had to be made.
 */
export const WROTE = '.sepia-wrote';
const MADE = 'made ';
/** Who may do what with a file. */
interface Rights {
  readonly mode: number;
  readonly uid?: number;
  readonly gid?: number;
}

/** Rights of a new file: whoever may read the folder may read it. */
const NEW: Rights = { mode: 0o644 };

/**
 * Writes the changes: each file whole or not at all. What others wrote there last is kept beside it: once, or anew where
 * it was edited since. A link stays one: the file that it leads to is changed. It may be stopped at any instant.
 */
export async function applyChanges(changes: readonly Change[]): Promise<void> {
  for (const { path: named, before, after } of changes) {
    const path = await behind(named);
    const made = (await mkdir(dirname(path), { recursive: true, mode: 0o755 })) ?? (await madeFor(path));
    const rights = before === undefined ? NEW : await rightsOf(path);
    const isOurs = before !== undefined && (await wroteThere(path, before));
    if (before === undefined) await rm(path + BACKUP, { force: true });
    else if (!isOurs) await write(path + BACKUP, before, rights);
    // First what will be ours, then it: a text that we wrote must never be taken for an edit.
    const texts = isOurs ? [after, before] : [after];
    const lines = [...texts.map(hashOf), ...(made === undefined ? [] : [MADE + made])];
    await write(path + WROTE, lines.map((line) => `${line}\n`).join(''), NEW);
    await write(path, after, rights);
  }
}

const EDITED = 'was edited since';

/** True of a line of {@link restoreFile} about a file that still has what we wrote. */
export function isLeft(line: string): boolean {
  return line.includes(`: ${EDITED}, `);
}

/**
 * Takes a change away: the backup becomes the file again, byte for byte. One that was edited since keeps its edits.
 * `isOurs` tells more texts that are as we left them.
 * @returns what was done, one line; undefined where there was nothing to do
 */
export async function restoreFile(
  named: string,
  isOurs: (text: string, backup: string) => boolean = () => false,
): Promise<string | undefined> {
  const path = await behind(named);
  const [backup, current] = [await textOf(path + BACKUP), await textOf(path)];
  if (current === undefined && backup === undefined) return undefined;
  const isWritten = current !== undefined && (await wroteThere(path, current));
  let done: string;
  if (backup === undefined) {
    const isMarked = [OUR_MARK, HOSTS_MARK].some((mark) => current?.startsWith(mark) === true);
    if (!isWritten || !isMarked) return undefined;
    await rm(path);
    done = `${path}: removed`;
  } else if (isWritten || current === backup || (current !== undefined && isOurs(current, backup))) {
    await rename(path + BACKUP, path);
    done = `${path}: as before`;
  } else return `${path}: ${EDITED}, left as it is; what it was before is in ${path}${BACKUP}`;
  await forget(path);
  return done;
}

/** Removes what we put at `path`, our marks beside it, and the empty folders that were made for it. */
export async function forget(named: string): Promise<void> {
  const path = await behind(named);
  const made = await madeFor(path);
  await rm(path + WROTE, { force: true });
  for (let dir = dirname(path); made !== undefined && dir.startsWith(made); dir = dirname(dir)) {
    try {
      await rmdir(dir);
    } catch (error) {
      throwIfBug(error);
      if (!['ENOENT', 'ENOTEMPTY', 'EEXIST'].includes(systemCode(error) ?? '')) throw error;
      return;
    }
  }
}

async function madeFor(path: string): Promise<string | undefined> {
  const lines = (await textOf(path + WROTE))?.split('\n') ?? [];
  return lines.find((line) => line.startsWith(MADE))?.slice(MADE.length);
}

/** True if `text`, which is at `path`, is as we wrote it. */
async function wroteThere(path: string, text: string): Promise<boolean> {
  return (await textOf(path + WROTE))?.split('\n').includes(hashOf(text)) === true;
}

function hashOf(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

/** The file that a path leads to; itself where that is not there. */
async function behind(path: string): Promise<string> {
  try {
    return await realpath(path);
  } catch (error) {
    if (!isNotThere(error)) throw error;
    return path;
  }
}

async function rightsOf(path: string): Promise<Rights> {
  const { mode, uid, gid } = await stat(path);
  return { mode: mode & 0o7777, uid, gid };
}

async function write(path: string, text: string, { mode, uid, gid }: Rights): Promise<void> {
  const target = { path, temporary: `${path}.sepia-new`, durable: true };
  // One that was stopped before may have left it.
  await diskFiles.unlink(target.temporary);
  await replaceWhole(diskFiles, target, Buffer.from(text, 'utf8'));
  // Only root gives files away; a change of owner takes bits of the mode.
  if (uid !== undefined && gid !== undefined && process.getuid?.() === 0) await chown(path, uid, gid);
  await chmod(path, mode);
}

/** A file's text; undefined where it is not there, nor could be: what stands for its folder may be a file. */
export async function textOf(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (!isNotThere(error)) throw error;
    return undefined;
  }
}

/** True for what the system says of a path that leads nowhere. */
export function isNotThere(error: unknown): boolean {
  const code = systemCode(error);
  return code === 'ENOENT' || code === 'ENOTDIR';
}
