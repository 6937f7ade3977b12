import type { Cluster } from '@sepia/cluster/cluster';
import { checkedId, readCluster } from '@sepia/cluster/member-config';
import type { TrackerConfig } from './config.ts';

/** What the files say that a config names. */
interface TrackerFiles {
  readonly cluster: Cluster;
  readonly clusterKey: Uint8Array;
  readonly id: string;
}

/**
 * All that a start refuses of a config and of the files that it names; `sepia config check` and a reload ask the same. Paths are absolute.
 * @throws {CodedError} `CONFIG_INVALID` that names the key
 */
export function checkTracker(config: TrackerConfig): TrackerFiles {
  const { cluster, clusterKey } = readCluster(config);
  return { cluster, clusterKey, id: checkedId(config, cluster, 'tracker') };
}
