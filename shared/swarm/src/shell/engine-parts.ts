import type { Bans } from '../core/bans.ts';
import type { CoreLimits } from '../core/limits.ts';
import type { SharedLine } from '../core/line/shared-line.ts';
import type { SwarmLog } from '../swarm.ts';
import type { SwarmNet } from './net.ts';
import type { SwarmShell } from './shell.ts';
import type { SlabPool } from './slab-pool.ts';
import type { StrangerRoom } from './stranger-room.ts';
import type { UploadBudget } from './upload.ts';
import type { WireWarnings } from './wire-warnings.ts';

/** What all swarms of an engine share. `peerId`: 20 bytes. */
export interface EngineParts {
  readonly clusterKey: Uint8Array;
  readonly peerId: Uint8Array;
  readonly origin: boolean;
  readonly zone: string;
  readonly log: SwarmLog;
  readonly net: SwarmNet;
  readonly slabs: SlabPool;
  readonly uploads: UploadBudget;
  readonly limits: Partial<CoreLimits>;
  readonly bans: Bans;
  readonly line: SharedLine;
  readonly warnings: WireWarnings;
  readonly strangers: StrangerRoom;
  /** Swarms that are open to strangers, by the infohash (40 hex) of their torrent. */
  readonly torrents: Map<string, SwarmShell>;
}
