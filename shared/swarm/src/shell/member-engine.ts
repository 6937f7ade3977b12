import { CodedError } from '@sepia/base/errors';
import { peerIdOf } from '@sepia/base/names/peer-id';
import { steadyMs } from '@sepia/base/reach';
import { LastingNames } from '@sepia/http/names/lasting-names';
import type { MemberEncryption } from '@sepia/http/tls/cluster-encryption';
import { SwarmEngine, type SwarmEngineDeps } from './engine.ts';
import { encryptedNet, tcpNet } from './net.ts';
import { strangerLimits } from './stranger-room.ts';
import { WireWarnings } from './wire-warnings.ts';

interface MemberEngineDeps extends Pick<SwarmEngineDeps, 'clusterKey' | 'log'> {
  /** Of the cluster document: the room for peers that are no members. */
  readonly policies: Parameters<typeof strangerLimits>[0];
  readonly encryption: MemberEncryption | undefined;
}

interface MemberOfSwarms {
  readonly id: string;
  readonly zone: string | undefined;
  readonly origin?: boolean;
}

/** The engine of all swarms of one member: sockets encrypted as the cluster says, its peer id by its member id, nothing bound yet. */
export function memberEngine(
  { clusterKey, log, policies, encryption }: MemberEngineDeps,
  { id, zone, origin = false }: MemberOfSwarms,
): SwarmEngine {
  const warnings = new WireWarnings({ log });
  const onFailed = (cause: Error, address: string): void => {
    const message = 'TLS handshake failed; has a member there another cluster key?';
    warnings.ended(new CodedError('WIRE_INVALID', { message, cause }), 'wire refused', { address });
  };
  const { lookup } = new LastingNames({ nowMs: steadyMs, log });
  const net = encryption === undefined ? tcpNet(lookup) : encryptedNet(encryption, onFailed, lookup);
  return new SwarmEngine(
    { clusterKey, peerId: peerIdOf(id), log, net },
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
