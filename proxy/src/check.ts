import { checkAudit } from '@sepia/base/audit';
import { CodedError } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import { steadyMs } from '@sepia/base/reach';
import type { Cluster } from '@sepia/cluster/cluster';
import { checkDefaultUpstreams, checkedId, readCluster } from '@sepia/cluster/member-config';
import { checkListeners } from '@sepia/http/tls/listener-tls';
import { readAccounts } from './accounts/accounts.ts';
import type { ProxyConfig } from './config.ts';
import { driverAuth, webhookAuth } from './harbor/request-auth.ts';

/** What the files say that a config names. */
interface ProxyFiles {
  readonly cluster: Cluster;
  readonly clusterKey: Uint8Array;
  readonly id: string;
}

/**
 * All that a start refuses of a config and of the files that it names; `sepia config check` and a reload ask the same. Paths are absolute.
 * @throws {CodedError} `CONFIG_INVALID` that names the key
 */
export function checkProxy(config: ProxyConfig): ProxyFiles {
  const { cluster, clusterKey } = readCluster(config);
  const id = checkedId(config, cluster, 'proxy');
  checkDefaultUpstreams(config.listeners, cluster);
  checkAccounts(config, cluster);
  const quiet = { log: silentLogger(), nowMs: steadyMs };
  driverAuth(quiet, config.harbor['driver-auth']);
  webhookAuth(quiet, config.harbor.webhook);
  checkListeners(quiet, config.listeners);
  checkAudit(config['audit-log']);
  return { cluster, clusterKey, id };
}

/** Rules stand in the document, passwords in the file: one without the other is a mistake. */
function checkAccounts(config: ProxyConfig, cluster: Cluster): void {
  const file = config['accounts-file'];
  const hasRules = cluster.document.accounts !== undefined;
  if (file !== undefined && !hasRules)
    throw new CodedError('CONFIG_INVALID', {
      message: 'accounts-file: the cluster document has no section accounts with the rules for them',
    });
  if (file === undefined && hasRules)
    throw new CodedError('CONFIG_INVALID', {
      message: 'accounts-file: is missing; the cluster document has a section accounts',
    });
  if (file !== undefined) readAccounts(file);
}
