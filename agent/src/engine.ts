import type { Digest } from '@sepia/base/digest';
import type { Logger } from '@sepia/base/log';
import { peerIdOf } from '@sepia/base/names/peer-id';
import type { OpenToStrangers } from '@sepia/cluster/api/join';
import type { Cluster } from '@sepia/cluster/cluster';
import { SwarmEngine } from '@sepia/swarm/shell/engine';
import { strangerLimits } from '@sepia/swarm/shell/stranger-room';
import { meetStrangers } from './downloads/meet-strangers.ts';

/** The engine of a node's swarms. */
export function createEngine(
  deps: { readonly cluster: Cluster; readonly clusterKey: Uint8Array; readonly log: Logger },
  self: { readonly id: string; readonly zone: string | undefined },
): SwarmEngine {
  const { cluster, clusterKey, log } = deps;
  const { id, zone } = self;
  return new SwarmEngine(
    { clusterKey, peerId: peerIdOf(id), log },
    { strangers: strangerLimits(cluster.document.policies), ...(zone === undefined ? {} : { zone }) },
  );
}

/** Opens the swarms that a tracker named to standard clients, where this node is in them. */
export function openSwarms(engine: SwarmEngine, told: readonly OpenToStrangers[]): void {
  for (const one of told) {
    const swarm = engine.get(one.digest as Digest);
    if (swarm !== undefined) meetStrangers(swarm, one);
  }
}
