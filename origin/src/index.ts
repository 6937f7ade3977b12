import { loadConfig, withPaths } from '@sepia/base/config/load';
import type { z } from 'zod';
import { ORIGIN_CONFIG, type OriginConfig } from './config.ts';
import { type Origin, type OriginDeps, startOrigin } from './service.ts';

export { checkDocument, checkOrigin } from './check.ts';
export { ORIGIN_CONFIG, type OriginConfig, RELOADED } from './config.ts';
export type { Origin } from './service.ts';

/** Keys of `credentials` that name files. */
const CREDENTIAL_FILES = ['password-file', 'certificate', 'key-file', 'proxy-password-file'] as const;

/** Starts an origin from a checked config whose paths are absolute. @throws {CodedError} `CONFIG_INVALID`, `START_FAILED` */
export async function createOrigin(config: OriginConfig, deps: OriginDeps = {}): Promise<Origin> {
  return await startOrigin(config, deps);
}

/** Reads an origin's config file; its paths become absolute. @throws {CodedError} `CONFIG_INVALID` */
export function loadOriginConfig(file: string): OriginConfig {
  const config = loadConfig(file, ORIGIN_CONFIG as unknown as z.ZodType<OriginConfig>);
  const credentials = Object.entries(config.credentials).map(([name, one]) => [
    name,
    withPaths(file, one, CREDENTIAL_FILES),
  ]);
  return Object.freeze({
    ...withPaths(file, config, ['data', 'cluster-key-file', 'cluster-document']),
    credentials: Object.fromEntries(credentials),
    records: withPaths(file, config.records, ['url-file']),
  });
}
