import type { Cluster } from '@sepia/cluster/cluster';
import { checkedId, readCluster } from '@sepia/cluster/member-config';
import { checkFolders } from '@sepia/store/make-folders';
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
  const id = checkedId(config, cluster, 'tracker');
  checkFolders(config.data, 'data');
  return { cluster, clusterKey, id };
}
