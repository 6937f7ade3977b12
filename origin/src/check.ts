import { caOfBackend, openBackend, threadsOf } from '@sepia/backend/open/open-backend';
import type { NamedFile } from '@sepia/base/config/live-texts';
import { silentLogger } from '@sepia/base/log';
import { steadyMs } from '@sepia/base/reach';
import type { Cluster } from '@sepia/cluster/cluster';
import { loadClusterDocument } from '@sepia/cluster/load-document';
import { checkedId, readCluster } from '@sepia/cluster/member-config';
import { liveTls } from '@sepia/http/tls/tls-texts';
import { readDatabaseUrl } from '@sepia/records/table/postgres/database-url';
import { checkFolders } from '@sepia/store/make-folders';
import { caOf } from '@sepia/upstream/client-setup';
import { type OriginConfig, paceOf } from './config.ts';
import { openTargets } from './replication/targets.ts';
import { Upstreams } from './upstream/upstreams.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/** What the files say that a config names. */
interface OriginFiles {
  readonly cluster: Cluster;
  readonly clusterKey: Uint8Array;
  readonly id: string;
}

/**
 * All that a start refuses of a config and of the files that it names; `sepia config check` and a reload ask the same. Paths
 * are absolute. What reads files is opened as a start opens it, and closed again; nobody is asked anything.
 * @throws {CodedError} `CONFIG_INVALID` that names the key
 */
export async function checkOrigin(config: OriginConfig, env: Environment): Promise<OriginFiles> {
  const { cluster, clusterKey } = readCluster(config);
  const id = checkedId(config, cluster, 'origin');
  const urlFile = config.records['url-file'];
  if (urlFile !== undefined) readDatabaseUrl(urlFile, 'records.url-file');
  await checkRegistries(config, cluster, env);
  await checkBackends(config, cluster, env);
  checkFolders(config.data, 'data');
  return { cluster, clusterKey, id };
}

/**
 * A cluster document without a config beside it, and the files that it names.
 * @throws {CodedError} `CONFIG_INVALID` in the words of {@link checkOrigin}
 */
export function checkDocument(file: string): void {
  const { upstreams, replication } = loadClusterDocument(file);
  const check = (ca: NamedFile | undefined): unknown =>
    liveTls({ log: silentLogger(), nowMs: steadyMs }, { ca });
  for (const upstream of upstreams) {
    if (upstream.url !== undefined) check(caOf(upstream));
    if (upstream.backend !== undefined) check(caOfBackend(upstream.name, upstream.backend));
  }
  for (const [index, { to }] of replication.entries())
    check(to.ca === undefined ? undefined : { file: to.ca, key: `replication.${index}.to.ca` });
}

async function checkRegistries(config: OriginConfig, cluster: Cluster, env: Environment): Promise<void> {
  const { credentials } = config;
  const clocks = { nowMs: steadyMs, dateMs: steadyMs };
  const deps = { cluster, credentials, env, log: silentLogger(), ...clocks };
  const upstreams = new Upstreams({ ...deps, backends: new Map() }, paceOf(config));
  await upstreams.close();
  for (const { client } of openTargets(deps).values()) await client.close();
}

async function checkBackends(config: OriginConfig, cluster: Cluster, env: Environment): Promise<void> {
  for (const { name, backend } of cluster.upstreams) {
    if (backend === undefined) continue;
    const options = { ...paceOf(config), upstream: name, mayBegin: false, threads: threadsOf(env, 1) };
    const opened = await openBackend({ env, log: silentLogger(), nowMs: steadyMs }, backend, options);
    await opened.close();
  }
}
