import { besideConfig, loadConfig } from '@sepia/base/config/load';
import type { Logger } from '@sepia/base/log';
import type { z } from 'zod';
import { PROXY_CONFIG, type ProxyConfig } from './config.ts';
import { type RunningProxy, startProxy } from './service.ts';

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
  const at = (path: string): string => besideConfig(file, path);
  return Object.freeze({
    ...config,
    data: at(config.data),
    'cluster-key-file': at(config['cluster-key-file']),
    'cluster-document': at(config['cluster-document']),
    ...(config['accounts-file'] === undefined ? {} : { 'accounts-file': at(config['accounts-file']) }),
    ...(config['audit-log'] === undefined ? {} : { 'audit-log': at(config['audit-log']) }),
    harbor: harborBeside(config.harbor, at),
  });
}

/** The same with absolute paths. */
function harborBeside(harbor: ProxyConfig['harbor'], at: (path: string) => string): ProxyConfig['harbor'] {
  const { 'driver-auth': driver, webhook } = harbor;
  const secret = driver['secret-file'];
  const authorization = webhook['authorization-file'];
  return {
    ...harbor,
    'driver-auth': { ...driver, ...(secret === undefined ? {} : { 'secret-file': at(secret) }) },
    webhook: {
      ...webhook,
      ...(authorization === undefined ? {} : { 'authorization-file': at(authorization) }),
    },
  };
}
