import { loadConfig, withPaths } from '@sepia/base/config/load';
import type { Logger } from '@sepia/base/log';
import type { z } from 'zod';
import { TRACKER_CONFIG, type TrackerConfig } from './config.ts';
import { startTracker, type Tracker } from './service.ts';

export { checkTracker } from './check.ts';
export { TRACKER_CONFIG, type TrackerConfig } from './config.ts';
export type { Tracker } from './service.ts';

/** Starts a tracker from a checked config whose paths are absolute. */
export async function createTracker(
  config: TrackerConfig,
  deps: { readonly log?: Logger } = {},
): Promise<Tracker> {
  return await startTracker(config, deps);
}

/** Reads a tracker's config file; its paths become absolute. @throws {CodedError} `CONFIG_INVALID` */
export function loadTrackerConfig(file: string): TrackerConfig {
  const config = loadConfig(file, TRACKER_CONFIG as unknown as z.ZodType<TrackerConfig>);
  return Object.freeze(withPaths(file, config, ['data', 'cluster-key-file', 'cluster-document']));
}
