import { besideConfig, loadConfig } from '@sepia/base/config/load';
import type { z } from 'zod';
import { SNAPSHOTTER_CONFIG, type SnapshotterConfig } from './config.ts';

export { SNAPSHOTTER_CONFIG, type SnapshotterConfig } from './config.ts';
export { type Snapshotter, startSnapshotter } from './service.ts';

/** Reads a snapshotter's config file; its paths become absolute. @throws {CodedError} `CONFIG_INVALID` */
export function loadSnapshotterConfig(file: string): SnapshotterConfig {
  const config = loadConfig(file, SNAPSHOTTER_CONFIG as unknown as z.ZodType<SnapshotterConfig>);
  const at = (path: string): string => besideConfig(file, path);
  return Object.freeze({
    ...config,
    data: at(config.data),
    mount: at(config.mount),
    ...(config['node-secret-file'] === undefined
      ? {}
      : { 'node-secret-file': at(config['node-secret-file']) }),
    ...(config['snapshots-socket'] === undefined
      ? {}
      : { 'snapshots-socket': at(config['snapshots-socket']) }),
    'content-cache': at(config['content-cache']),
    layers: config.layers.map((layer) => ({ ...layer, index: at(layer.index) })),
  });
}
