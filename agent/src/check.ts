import { checkAudit } from '@sepia/base/audit';
import { readClusterKey } from '@sepia/base/config/load';
import { silentLogger } from '@sepia/base/log';
import { steadyMs } from '@sepia/base/reach';
import type { Cluster } from '@sepia/cluster/cluster';
import { checkDefaultUpstreams, readCluster } from '@sepia/cluster/member-config';
import { checkListeners } from '@sepia/http/tls/listener-tls';
import { checkFolders } from '@sepia/store/make-folders';
import type { AgentConfig } from './config.ts';

/** What the files say that a config names. */
export interface AgentFiles {
  readonly cluster: Cluster;
  readonly clusterKey: Uint8Array;
  /** By it the snapshotter of this node is known. */
  readonly nodeSecret: Uint8Array | undefined;
}

/**
 * All that a start refuses of a config and of the files that it names; `sepia config check` and a reload ask the same. Paths are absolute.
 * @throws {CodedError} `CONFIG_INVALID` that names the key
 */
export function checkAgent(config: AgentConfig): AgentFiles {
  const { cluster, clusterKey } = readCluster(config);
  checkDefaultUpstreams(config.listeners, cluster);
  const file = config['node-secret-file'];
  const nodeSecret = file === undefined ? undefined : readClusterKey(file, 'node-secret-file');
  checkListeners({ log: silentLogger(), nowMs: steadyMs }, config.listeners);
  checkAudit(config['audit-log']);
  checkFolders(config.data, 'data');
  return { cluster, clusterKey, nodeSecret };
}
