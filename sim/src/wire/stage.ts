import type { Chance } from '@sepia/swarm/core/random';
import type { VirtualClock } from './clock.ts';
import type { Machine } from './machine.ts';
import type { Network } from './network.ts';
import type { TraceHash } from './trace.ts';

/** What the swarms of one run share. */
export interface Stage {
  readonly clock: VirtualClock;
  readonly network: Network;
  readonly chance: Chance;
  readonly trace: TraceHash;
  readonly machines: ReadonlyMap<string, Machine>;
}
