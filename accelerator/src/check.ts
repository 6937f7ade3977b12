import { silentLogger } from '@sepia/base/log';
import { steadyMs } from '@sepia/base/reach';
import type { Cluster } from '@sepia/cluster/cluster';
import { readCluster } from '@sepia/cluster/member-config';
import { checkFolders } from '@sepia/store/make-folders';
import type { AcceleratorConfig } from './config.ts';
import { apiGuard } from './http/routes.ts';
import { ResultRegistries } from './net/result-registries.ts';

/** What the files say that a config names. */
interface AcceleratorFiles {
  readonly cluster: Cluster;
  readonly clusterKey: Uint8Array;
}

/**
 * All that a start refuses of a config and of the files that it names; `sepia config check` and a reload ask the same. Paths
 * are absolute. What reads files is opened as a start opens it, and closed again; nobody is asked anything.
 * @throws {CodedError} `CONFIG_INVALID` that names the key
 */
export async function checkAccelerator(
  config: AcceleratorConfig,
  env: Readonly<Record<string, string | undefined>>,
): Promise<AcceleratorFiles> {
  const { cluster, clusterKey } = readCluster(config);
  const { api, credentials } = config;
  const quiet = { log: silentLogger(), nowMs: steadyMs };
  apiGuard(quiet, api);
  const registries = new ResultRegistries({
    cluster,
    credentials,
    env,
    ...quiet,
    dateMs: steadyMs,
    member: {},
  });
  await registries.close();
  checkFolders(config.data, 'data');
  return { cluster, clusterKey };
}
