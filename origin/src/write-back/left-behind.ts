import { CodedError } from '@sepia/base/errors';
import type { Logger } from '@sepia/base/log';
import type { Cluster } from '@sepia/cluster/cluster';
import type { ReplicationJobs } from '../replication/replication-jobs.ts';
import { isWriteBackRule } from '../replication/targets.ts';

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
