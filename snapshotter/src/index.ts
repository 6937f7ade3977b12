import { loadConfig, withPaths } from '@sepia/base/config/load';
import type { z } from 'zod';
import { SNAPSHOTTER_CONFIG, type SnapshotterConfig } from './config.ts';

export { checkSnapshotter } from './check.ts';
export { RELOADED, SNAPSHOTTER_CONFIG, type SnapshotterConfig } from './config.ts';
export { type Snapshotter, startSnapshotter } from './service.ts';

/** Reads a snapshotter's config file; its paths become absolute. @throws {CodedError} `CONFIG_INVALID` */
export function loadSnapshotterConfig(file: string): SnapshotterConfig {
  const config = loadConfig(file, SNAPSHOTTER_CONFIG as unknown as z.ZodType<SnapshotterConfig>);
  return Object.freeze({
    ...withPaths(file, config, [
      'data',
      'mount',
      'node-secret-file',
      'snapshots-socket',
      'content-cache',
      'fill-first',
      'containerd',
    ]),
    layers: config.layers.map((layer) => withPaths(file, layer, ['index'])),
  });
}
