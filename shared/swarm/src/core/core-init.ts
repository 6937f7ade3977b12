import type { Bitfield } from '@sepia/base/bitfield';
import type { Bans } from './bans.ts';
import type { CoreLimits } from './limits.ts';
import type { LinePlace } from './line/shared-line.ts';

/** What a core is told once. `have` is copied. */
export interface CoreInit {
  readonly peerId: string;
  readonly zone: string;
  readonly pieceCount: number;
  readonly have: Bitfield;
  /** True once the hash of a piece is known: no other piece is asked for. */
  readonly knows: (index: number) => boolean;
  readonly leech: boolean;
  /** False: only pieces that readers cover are fetched, until `wantAll`. Default true. */
  readonly wantAll?: boolean;
  /** Super-seeds under an egress budget. */
  readonly origin: boolean;
  readonly seed: number;
  readonly nowMs: number;
  readonly limits?: Partial<CoreLimits>;
  /** Shared with other swarms; own ones when left out. */
  readonly bans?: Bans;
  /** On the machine's line, which it shares with its other swarms; one of its own when left out. */
  readonly line?: LinePlace;
}
