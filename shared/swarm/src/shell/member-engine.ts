import { peerIdOf } from '@sepia/base/names/peer-id';
import { SwarmEngine, type SwarmEngineDeps } from './engine.ts';
import { strangerLimits } from './stranger-room.ts';

interface MemberEngineDeps extends Pick<SwarmEngineDeps, 'clusterKey' | 'log'> {
  /** Of the cluster document: the room for peers that are no members. */
  readonly policies: Parameters<typeof strangerLimits>[0];
}

interface MemberOfSwarms {
  readonly id: string;
  readonly zone: string | undefined;
  readonly origin?: boolean;
}

/** The engine of a member's swarms. */
export function memberEngine(
  { clusterKey, log, policies }: MemberEngineDeps,
  { id, zone, origin = false }: MemberOfSwarms,
): SwarmEngine {
  return new SwarmEngine(
    { clusterKey, peerId: peerIdOf(id), log },
    { origin, strangers: strangerLimits(policies), ...(zone === undefined ? {} : { zone }) },
  );
}

/** Opens the swarm ports; the addresses that they got. @throws `CONFIG_INVALID` */
export async function listenForPeers(engine: SwarmEngine, addresses: readonly string[]): Promise<string[]> {
  const bound: string[] = [];
  for (const address of addresses) {
    const { address: host, port } = await engine.listen(address);
    bound.push(`${host.includes(':') ? `[${host}]` : host}:${port}`);
  }
  return bound;
}
