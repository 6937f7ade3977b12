import type { Logger } from '@sepia/base/log';
import type { Metainfo } from '@sepia/metainfo/metainfo';
import type { PartialBlob } from '@sepia/store/partial-blob';
import type { Swarm } from '@sepia/swarm/swarm';
import type { PatienceLimits } from './core/patience.ts';
import type { Guide } from './guide-port.ts';

/** Where a piece came from, for the byte counters. */
export type PieceSource = 'peer' | 'origin' | 'upstream';

/** What a download needs of the node. */
export interface DownloadDeps {
  readonly partial: PartialBlob;
  readonly joinSwarm: () => Swarm;
  readonly guide: Guide;
  readonly log: Logger;
  readonly nowMs: () => number;
  readonly onBytes: (source: PieceSource, bytes: number) => void;
  /** How long its readers wait without progress before they fail. */
  readonly patience: PatienceLimits;
  /** False: only what readers cover is fetched, until {@link Download.wantAll}. */
  readonly wantAll: boolean;
  /** Stores the verified blob. @throws `DISK_FULL`, `DIGEST_MISMATCH` */
  readonly commit: (partial: PartialBlob) => Promise<void>;
  /** The whole digest was right; the blob may be stored or not. */
  readonly onVerified: () => void;
  /** The origin dropped this attempt and began another; pieces of it may have been read. */
  readonly onDropped: (attempt: Metainfo) => void;
  /** Nobody in the cluster answers any more, and `cause` says so; told again and again while that lasts. */
  readonly onSilence: (cause: unknown) => void;
}
