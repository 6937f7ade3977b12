import { Chance } from '@sepia/swarm/core/random';
import type { SimulateOptions, SimulateProgress } from '../whole/simulate.ts';
import { STEPS_A_WORD, VirtualClock } from '../wire/clock.ts';
import { DEFAULT_LATENCY_MS, DEFAULT_START_MS, Network } from '../wire/network.ts';
import { BLOCK_BYTES, PIECE_BYTES } from '../wire/uplink.ts';
import { KRAKEN_LIMITS } from './kraken-limits.ts';
import { KrakenPeer } from './kraken-peer.ts';
import type { KrakenPolicy } from './kraken-requests.ts';
import { KrakenTracker } from './kraken-tracker.ts';

/** As of {@link SimulateOptions}; `pieces` are MiB, several blobs are one as long as all. */
export type KrakenOptions = Pick<
  SimulateOptions,
  'nodes' | 'pieces' | 'latencyMs' | 'startMs' | 'seed' | 'blockBytes'
> &
  Required<Pick<SimulateOptions, 'origins' | 'rateBytesPerSec' | 'originRateBytesPerSec' | 'untilMs'>> & {
    /** Default `default`: pieces by lot. */
    readonly policy?: KrakenPolicy;
  };

/** As {@link Result}, of what Kraken's policy has. */
export interface KrakenResult {
  /** Node → ms at which it had all; missing if it never had. */
  readonly finishedMs: ReadonlyMap<string, number>;
  readonly lastMs: number;
  readonly originCopies: number;
  /** Pieces, of Kraken's length, that came twice. */
  readonly duplicates: number;
}

/**
 * Kraken's policy on the network of {@link simulate}: free CPU, a tracker that answers at once. All origins have the blob;
 * three of them serve it.
 */
export function simulateKraken(
  options: KrakenOptions,
  tell?: (progress: SimulateProgress) => void,
): KrakenResult {
  const units = [options.pieces].flat().reduce((total, one) => total + one, 0);
  const clock = new VirtualClock();
  const network = new Network(clock, options.latencyMs ?? DEFAULT_LATENCY_MS);
  const chance = new Chance(options.seed);
  const add = (name: string, origin: boolean): KrakenPeer => {
    const rate = origin ? options.originRateBytesPerSec : options.rateBytesPerSec;
    network.add(name, rate, rate);
    const announce = (asker: KrakenPeer): readonly KrakenPeer[] => tracker.announce(asker);
    const policy = options.policy ?? 'default';
    const { blockBytes = BLOCK_BYTES } = options;
    return new KrakenPeer({
      name,
      origin,
      clock,
      network,
      units,
      blockBytes,
      policy,
      chance,
      announce,
    });
  };
  const serving = Math.min(options.origins, KRAKEN_LIMITS.origins);
  const origins = Array.from({ length: serving }, (_, at) => add(`o${at}`, true));
  const agents = Array.from({ length: options.nodes }, (_, at) => add(`a${at}`, false));
  const tracker = new KrakenTracker(origins, chance);
  for (const agent of agents)
    clock.at(chance.next() * (options.startMs ?? DEFAULT_START_MS), () => agent.start());
  let left = agents;
  let steps = 0;
  while (left.length > 0 && clock.nowMs < options.untilMs && clock.step()) {
    if (left.at(-1)!.complete) left = left.filter((agent) => !agent.complete);
    steps += 1;
    if (steps % STEPS_A_WORD === 0)
      tell?.({ atMs: clock.nowMs, pieces: agents.reduce((sum, agent) => sum + agent.units, 0) });
  }
  const finishedMs = new Map<string, number>();
  for (const { name, finishedMs: at } of agents) if (at !== undefined) finishedMs.set(name, at);
  const sent = origins.reduce((sum, { name }) => sum + network.sentBytes(name), 0);
  return {
    finishedMs,
    lastMs: Math.max(0, ...finishedMs.values()),
    originCopies: sent / (units * PIECE_BYTES),
    duplicates: agents.reduce((sum, agent) => sum + agent.duplicates, 0),
  };
}
