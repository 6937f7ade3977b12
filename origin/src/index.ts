import { besideConfig, loadConfig } from '@sepia/base/config/load';
import type { z } from 'zod';
import { ORIGIN_CONFIG, type OriginConfig } from './config.ts';
import { type Origin, type OriginDeps, startOrigin } from './service.ts';

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
  const at = (path: string): string => besideConfig(file, path);
  const credentials = Object.fromEntries(
    Object.entries(config.credentials).map(([name, one]) => [
      name,
      {
        ...one,
        ...Object.fromEntries(
          CREDENTIAL_FILES.filter((key) => one[key] !== undefined).map((key) => [key, at(one[key]!)]),
        ),
      },
    ]),
  );
  return Object.freeze({
    ...config,
    data: at(config.data),
    'cluster-key-file': at(config['cluster-key-file']),
    'cluster-document': at(config['cluster-document']),
    credentials,
    records: {
      ...config.records,
      ...(config.records['url-file'] === undefined ? {} : { 'url-file': at(config.records['url-file']) }),
    },
  });
}
