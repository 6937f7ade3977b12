import { boundedMs } from '@sepia/base/bounded-ms';
import type { Digest } from '@sepia/base/digest';
import { parseHostPort } from '@sepia/base/host-port';
import type { OpenToStrangers } from '@sepia/cluster/api/join';
import type { SwarmEngine } from '@sepia/swarm/shell/engine';
import type { Swarm } from '@sepia/swarm/swarm';
import { MAX_OPEN_MS } from '../deadlines.ts';

/** Strangers of one answer that are dialled. */
const MAX_STRANGERS = 50;

/** Opens a swarm to standard clients as its tracker told, and names those that take part. What is not valid is left out. */
export function meetStrangers(
  swarm: Pick<Swarm, 'admitStrangers' | 'addStrangers'>,
  told: OpenToStrangers & { readonly addresses?: readonly string[] },
): void {
  if (!/^[0-9a-f]{40}$/.test(told.infoHash)) return;
  swarm.admitStrangers(Buffer.from(told.infoHash, 'hex'), boundedMs(told.ttlMs, 0, MAX_OPEN_MS));
  const addresses = (told.addresses ?? []).filter((one) => parseHostPort(one) !== undefined);
  if (addresses.length > 0) swarm.addStrangers(addresses.slice(0, MAX_STRANGERS));
}

/** Opens the swarms that a tracker named to standard clients, where this node is in them. */
export function openSwarms(engine: SwarmEngine, told: readonly OpenToStrangers[]): void {
  for (const one of told) {
    const swarm = engine.get(one.digest as Digest);
    if (swarm !== undefined) meetStrangers(swarm, one);
  }
}
