import { readClusterKey } from '@sepia/base/config/load';
import type { SnapshotterConfig } from './config.ts';
import { checkOverlayPath } from './files/mounts.ts';

/**
 * All that a start refuses of a config and of the files that it names; `sepia config check` and a reload ask the same. Paths are absolute.
 * @returns the secret that this node's agent knows its snapshotter by, or undefined
 * @throws {CodedError} `CONFIG_INVALID` that names the key
 */
export function checkSnapshotter(config: SnapshotterConfig): { readonly nodeSecret: Uint8Array | undefined } {
  if (config['snapshots-socket'] !== undefined) checkOverlayPath(config.data);
  const file = config['node-secret-file'];
  return { nodeSecret: file === undefined ? undefined : readClusterKey(file, 'node-secret-file') };
}
