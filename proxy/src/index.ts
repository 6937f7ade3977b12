import { besideConfig, loadConfig } from '@sepia/shared/config/load';
import type { Logger } from '@sepia/shared/log';
import type { z } from 'zod';
import { PROXY_CONFIG, type ProxyConfig } from './config.ts';
import { type RunningProxy, startProxy } from './service.ts';

export { PROXY_CONFIG, type ProxyConfig } from './config.ts';
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
  const at = (path: string): string => besideConfig(file, path);
  return Object.freeze({
    ...config,
    data: at(config.data),
    'cluster-key-file': at(config['cluster-key-file']),
    'cluster-document': at(config['cluster-document']),
    ...(config['accounts-file'] === undefined ? {} : { 'accounts-file': at(config['accounts-file']) }),
    ...(config['audit-log'] === undefined ? {} : { 'audit-log': at(config['audit-log']) }),
  });
}
