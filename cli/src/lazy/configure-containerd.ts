import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readFile, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { CodedError, systemCode } from '@sepia/base/errors';
import { diskFiles } from '@sepia/store/files/disk-files';
import { replaceWhole } from '@sepia/store/files/file-port';
import { dropIn, OUR_MARK, withImport } from './containerd-toml.ts';
import type { Version } from './door.ts';
import { withSnapshotter } from './proxy-plugin-toml.ts';

/** A file that is to be written, and what is there now. */
export interface Change {
  readonly path: string;
  readonly before: string | undefined;
  readonly after: string;
}

const BACKUP = '.before-sepia';
/** Beside a config that we changed: SHA-256 of what we wrote, to know whether it was edited since. */
const WROTE = '.sepia-wrote';

/** Where containerd's files are. */
export interface ContainerdFiles {
  /** `/etc/containerd/config.toml`. */
  readonly config: string;
  readonly contentCache: string;
}

/** What door 2 would write: containerd's config with our snapshotter behind its socket. @throws {CodedError} `CONFIG_INVALID` */
export async function plannedProxyPlugin(
  config: string,
  options: { readonly socket: string; readonly containerd: Version },
): Promise<Change[]> {
  const before = await textOf(config);
  const after = withSnapshotter(before, options);
  return before === after ? [] : [{ path: config, before, after }];
}

/** What door 1 would write: nothing where all is as it should be. */
export async function plannedChanges(files: ContainerdFiles): Promise<Change[]> {
  const folder = join(dirname(files.config), 'conf.d');
  const ours = join(folder, 'sepia-lazy.toml');
  const old = await textOf(ours);
  if (old !== undefined && !old.startsWith(OUR_MARK))
    throw new CodedError('CONFIG_INVALID', { message: `${ours} is not ours; move it away first` });
  const changes: Change[] = [{ path: ours, before: old, after: dropIn(files.contentCache) }];
  // Without a config of its own containerd imports that folder by itself.
  const config = await textOf(files.config);
  if (config !== undefined)
    changes.push({ path: files.config, before: config, after: withImport(config, join(folder, '*.toml')) });
  return changes.filter((change) => change.before !== change.after);
}

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
 * Takes the changes away: the backup becomes the file again, byte for byte. A config that was edited since keeps its
 * edits; only the import is left in it, which does no harm.
 * @returns what was done, one line each
 */
export async function restore(files: ContainerdFiles): Promise<string[]> {
  const folder = join(dirname(files.config), 'conf.d');
  const ours = join(folder, 'sepia-lazy.toml');
  const done: string[] = [];
  const text = await textOf(ours);
  if (text?.startsWith(OUR_MARK) === true) {
    await rm(ours);
    done.push(`${ours}: removed`);
  }
  await rm(ours + WROTE, { force: true });
  const [backup, current] = [await textOf(files.config + BACKUP), await textOf(files.config)];
  if (current === undefined && backup === undefined) return done;
  const isOurs = (await textOf(files.config + WROTE))?.trim() === hashOf(current ?? '');
  const isImported = backup !== undefined && current === withImport(backup, join(folder, '*.toml'));
  if (backup === undefined && isOurs && current?.startsWith(OUR_MARK) === true) {
    await rm(files.config);
    done.push(`${files.config}: removed`);
  } else if (backup === undefined) return done;
  else if (isOurs || isImported || current === backup) {
    await rename(files.config + BACKUP, files.config);
    done.push(`${files.config}: as before`);
  } else {
    done.push(
      `${files.config}: was edited since, left as it is; what it was before is in ${files.config}${BACKUP}`,
    );
    return done;
  }
  await rm(files.config + WROTE, { force: true });
  return done;
}

function hashOf(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

async function write(path: string, text: string): Promise<void> {
  const target = { path, temporary: `${path}.sepia-new`, durable: true };
  await replaceWhole(diskFiles, target, Buffer.from(text, 'utf8'));
}

async function textOf(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw error;
    return undefined;
  }
}
