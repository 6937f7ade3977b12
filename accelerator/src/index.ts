import { loadConfig, withPaths } from '@sepia/base/config/load';
import type { z } from 'zod';
import { ACCELERATOR_CONFIG, type AcceleratorConfig } from './config.ts';
import { type Accelerator, type AcceleratorDeps, startAccelerator } from './service.ts';

export { checkAccelerator } from './check.ts';
export { ACCELERATOR_CONFIG, type AcceleratorConfig, RELOADED } from './config.ts';
export type { Accelerator } from './service.ts';

/** Starts an accelerator from a checked config whose paths are absolute. */
export async function createAccelerator(
  config: AcceleratorConfig,
  deps: AcceleratorDeps = {},
): Promise<Accelerator> {
  return await startAccelerator(config, deps);
}

/** Reads an accelerator's config file; its paths become absolute. @throws {CodedError} `CONFIG_INVALID` */
export function loadAcceleratorConfig(file: string): AcceleratorConfig {
  const config = loadConfig(file, ACCELERATOR_CONFIG as unknown as z.ZodType<AcceleratorConfig>);
  const credentials = Object.entries(config.credentials).map(([upstream, account]) => [
    upstream,
    withPaths(file, account, ['password-file']),
  ]);
  return Object.freeze({
    ...withPaths(file, config, ['data', 'cluster-key-file', 'cluster-document']),
    credentials: Object.fromEntries(credentials),
    api: withPaths(file, config.api, ['authorization-file']),
  });
}
