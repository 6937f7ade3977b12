import type { Logger } from '@sepia/base/log';
import type { BlobName } from '@sepia/base/names/blob-name';
import type { Cluster } from '@sepia/cluster/cluster';
import type { BlobStore } from '@sepia/store/blob-store';
import type { SwarmEngine } from '@sepia/swarm/shell/engine';
import type { UpstreamClient } from '@sepia/upstream/upstream-client';
import type { OriginClient } from '../cluster/origin-client.ts';
import type { Wish } from '../cluster/wish.ts';
import type { PieceSource } from '../downloads/download-deps.ts';
import type { ClusterGuide } from '../downloads/guide.ts';
import type { SourceGate } from '../source/source-gate.ts';
import type { CachedBlobs } from './cached-blobs.ts';
import type { Hints } from './core/hints.ts';
import type { Seeds } from './seeds.ts';

/** What the table of blobs needs. */
export interface TableDeps {
  readonly cluster: Cluster;
  readonly store: BlobStore;
  /** Folder of the store, for messages. */
  readonly dir: string;
  readonly engine: SwarmEngine;
  readonly origins: OriginClient;
  readonly hints: Hints;
  readonly guideOf: (name: BlobName, wish?: Wish) => ClusterGuide;
  readonly upstreamClient: (upstream: string) => UpstreamClient;
  readonly gate: SourceGate;
  readonly log: Logger;
  readonly nodeId: string;
  readonly nowMs: () => number;
  readonly onBytes: (source: PieceSource | 'cache', bytes: number) => void;
  readonly seeds: Seeds;
  readonly cached: CachedBlobs;
  readonly onBadPiece: () => void;
}
