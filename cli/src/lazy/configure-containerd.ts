import { rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { CodedError } from '@sepia/base/errors';
import { type Change, forget, restoreFile, textOf } from './changed-files.ts';
import { dropIn, OUR_MARK, withImport } from './containerd-toml.ts';
import { withSnapshotter } from './proxy-plugin-toml.ts';

/** Where containerd's files are. */
export interface ContainerdFiles {
  /** `/etc/containerd/config.toml`. */
  readonly config: string;
  readonly contentCache: string;
}

/** What door 2 would write: containerd's config with our snapshotter behind its socket. @throws {CodedError} `CONFIG_INVALID` */
export async function plannedProxyPlugin(
  config: string,
  options: Parameters<typeof withSnapshotter>[1],
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
  await forget(ours);
  const isImported = (current: string, backup: string): boolean =>
    current === withImport(backup, join(folder, '*.toml'));
  const config = await restoreFile(files.config, isImported);
  return [...done, ...(config === undefined ? [] : [config])];
}
