import type { Bitfield } from '@sepia/base/bitfield';
import type { KnownPeer } from '@sepia/swarm/core/events';
import type { CoreLimits } from '@sepia/swarm/core/limits';
import type { JoinAnswer } from '../control/trackers.ts';
import type { VirtualClock } from '../wire/clock.ts';
import type { Machine } from '../wire/machine.ts';
import type { Network } from '../wire/network.ts';
import type { TraceHash } from '../wire/trace.ts';
import type { SimNode } from './node.ts';

/** Joins a swarm: says who asks and whether pieces are lacking, and is told. */
export type Join = (asker: KnownPeer, leeching: boolean, told: (answer: JoinAnswer) => void) => void;

/** What a node is made of. */
export interface NodeInit {
  readonly name: string;
  /** Of all nodes, in the order in which they were made. */
  readonly number: number;
  readonly peerId: string;
  readonly zone: string;
  readonly origin: boolean;
  /** What is on its disk. */
  readonly have: Bitfield;
  readonly leech: boolean;
  readonly pieces: number;
  readonly knows: (index: number) => boolean;
  readonly seed: number;
  readonly clock: VirtualClock;
  readonly network: Network;
  readonly machine: Machine;
  readonly nodes: ReadonlyMap<string, SimNode>;
  readonly trace: TraceHash;
  /** It has all, or died. */
  readonly onEnd: () => void;
  readonly reader: boolean;
  readonly limits: Partial<CoreLimits>;
  readonly checked: boolean;
  readonly dialMs: number;
}
