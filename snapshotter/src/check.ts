import { readClusterKey } from '@sepia/base/config/load';
import { CodedError } from '@sepia/base/errors';
import type { SnapshotterConfig } from './config.ts';

/**
 * All that a start refuses of a config and of the files that it names; `sepia config check` and a reload ask the same. Paths are absolute.
 * @returns the secret that this node's agent knows its snapshotter by, or undefined
 * @throws {CodedError} `CONFIG_INVALID` that names the key
 */
export function checkSnapshotter(config: SnapshotterConfig): { readonly nodeSecret: Uint8Array | undefined } {
  checkOverlayPath(config);
  const file = config['node-secret-file'];
  return { nodeSecret: file === undefined ? undefined : readClusterKey(file, 'node-secret-file') };
}

/** Snapshots lie in the data folder and become options of an overlay, where these end a path. */
function checkOverlayPath({ data, 'snapshots-socket': socket }: SnapshotterConfig): void {
  if (socket === undefined || !/[:,\\]/.test(data)) return;
  throw new CodedError('CONFIG_INVALID', {
    message: `data: ${data} has a colon, comma or backslash, which no overlay of snapshots-socket can name: choose another folder`,
    detail: { key: 'data' },
  });
}
