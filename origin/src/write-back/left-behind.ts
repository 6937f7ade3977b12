import { CodedError } from '@sepia/base/errors';
import type { Logger } from '@sepia/base/log';
import type { Cluster } from '@sepia/cluster/cluster';
import { writeBackOf } from '@sepia/cluster/write-back';
import type { Database } from '@sepia/store/data-folder';
import type { ReplicationJobs } from '../replication/replication-jobs.ts';
import { isWriteBackRule, writeBackRule } from '../replication/targets.ts';

/** In the database: the registry that pushes to an upstream of mode write-back were meant for; its name follows. */
const BEHIND_KEY = 'm1\0registry-behind\0';

/**
 * Refuses to start while pushes wait for the registry behind an upstream that has another mode by now, or is gone from
 * the document: nobody would bring them there. `acceptLoss`: the operator's word that they are lost.
 * @throws {CodedError} `CONFIG_INVALID` that names the upstream and a push
 */
export async function refuseLeftBehind(
  deps: {
    readonly cluster: Pick<Cluster, 'upstreams'>;
    readonly jobs: Pick<ReplicationJobs, 'ofUpstreams'>;
    readonly log: Logger;
  },
  acceptLoss: boolean,
): Promise<void> {
  const { cluster, jobs, log } = deps;
  const modes = new Map(cluster.upstreams.map(({ name, mode }) => [name, mode]));
  for await (const { upstream, repository, job } of jobs.ofUpstreams(
    (name) => modes.get(name) !== 'write-back',
    ({ rule }) => isWriteBackRule(rule),
  )) {
    const mode = modes.get(upstream);
    const now = mode === undefined ? 'is gone from the cluster document' : `has mode ${mode}`;
    const what = `upstreams: ${upstream}: ${now}, but pushes wait for its registry (${repository}: ${job.reference})`;
    if (!acceptLoss)
      throw new CodedError('CONFIG_INVALID', {
        message: `${what}; set mode: write-back again, run "sepia write-back drain ${upstream}", then change it`,
        detail: { upstream, repository },
      });
    log.error({ upstream, repository }, `${what}; they are lost, by the operator's word`);
  }
}

/**
 * Refuses to start while pushes wait for the registry behind an upstream whose `url` is another one by now: they would
 * go to one that has nothing of what they build on. `write-back.moved-from` says that it is the same registry, or has
 * all that the other had. Where nothing waits the new one is noted.
 * @throws {CodedError} `CONFIG_INVALID` that names the upstream, both registries and a push
 */
export async function refuseMoved(deps: {
  readonly cluster: Pick<Cluster, 'upstreams'>;
  readonly jobs: Pick<ReplicationJobs, 'ofUpstreams'>;
  readonly db: Pick<Database, 'get' | 'put'>;
}): Promise<void> {
  const { cluster, jobs, db } = deps;
  for (const upstream of cluster.upstreams) {
    const writeBack = writeBackOf(upstream);
    if (writeBack === undefined) continue;
    const { name, url = '' } = upstream;
    const key = `${BEHIND_KEY}${name}`;
    const before = await db.get(key);
    const now = placeOf(url);
    if (before === now) continue;
    const moved = writeBack['moved-from'];
    const isSaid = moved !== undefined && placeOf(moved) === before;
    const waits = jobs.ofUpstreams(
      (one) => one === name && before !== undefined && !isSaid,
      ({ rule }) => rule === writeBackRule(name),
    );
    for await (const { repository, job } of waits)
      throw new CodedError('CONFIG_INVALID', {
        message:
          `upstreams: ${name}: url is ${now}, but pushes wait for ${before} (${repository}: ${job.reference}); ` +
          `set that again, run "sepia write-back drain ${name}", then change it, ` +
          `or say by write-back.moved-from: ${before} that the new one has all that it had`,
        detail: { upstream: name, repository },
      });
    await db.put(key, now);
  }
}

function placeOf(url: string): string {
  return new URL(url).href;
}
