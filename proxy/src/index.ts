import { loadConfig, withListenerPaths, withPaths } from '@sepia/base/config/load';
import type { Logger } from '@sepia/base/log';
import type { z } from 'zod';
import { PROXY_CONFIG, type ProxyConfig } from './config.ts';
import { type RunningProxy, startProxy } from './service.ts';

export { checkProxy } from './check.ts';
export { PROXY_CONFIG, type ProxyConfig, RELOADED } from './config.ts';
export type { RunningProxy } from './service.ts';

/** Starts a proxy from a checked config whose paths are absolute. @throws {CodedError} `CONFIG_INVALID`, `START_FAILED` */
export async function createProxy(
  config: ProxyConfig,
  deps: { readonly log?: Logger } = {},
): Promise<RunningProxy> {
  return await startProxy(config, deps);
}

/** Reads a proxy's config file; its paths become absolute. @throws {CodedError} `CONFIG_INVALID` */
export function loadProxyConfig(file: string): ProxyConfig {
  const config = loadConfig(file, PROXY_CONFIG as unknown as z.ZodType<ProxyConfig>);
  const { 'driver-auth': driver, webhook } = config.harbor;
  return Object.freeze({
    ...withPaths(file, config, [
      'data',
      'cluster-key-file',
      'cluster-document',
      'accounts-file',
      'audit-log',
    ]),
    listeners: withListenerPaths(file, config.listeners),
    harbor: {
      ...config.harbor,
      'driver-auth': withPaths(file, driver, ['secret-file']),
      webhook: withPaths(file, webhook, ['authorization-file']),
    },
  });
}
