import type { BlobBackend } from '@sepia/backend/blob-backend';
import type { Cluster } from '@sepia/cluster/cluster';
import type { Health } from '@sepia/cluster/core/health';
import type { BlobStore } from '@sepia/store/blob-store';
import type { DiskRoom } from '@sepia/store/disk-room';
import type { Scrubber } from '@sepia/store/scrubber';
import { backendStates } from './backend/start.ts';
import type { WriteBehind } from './backend/write-behind.ts';
import type { Replicator } from './blobs/replicator.ts';
import type { Swarms } from './blobs/swarms.ts';
import type { Uploads } from './blobs/uploads.ts';
import type { Fetches } from './fetch/fetches.ts';
import type { Recovery } from './recovery/recovery.ts';
import type { WriteBackView } from './write-back/start.ts';

interface StatusParts {
  readonly selfId: string;
  readonly cluster: Cluster;
  readonly store: BlobStore;
  readonly fetches: Fetches;
  readonly swarms: Swarms;
  readonly uploads: Uploads;
  readonly replicator: Replicator;
  readonly writeBehind: Pick<WriteBehind, 'backlog' | 'states'>;
  readonly backends: ReadonlyMap<string, BlobBackend>;
  readonly recovery: Pick<Recovery, 'owed'>;
  readonly scrubber: Pick<Scrubber, 'pass' | 'damaged'>;
  readonly health: Health;
  readonly room: DiskRoom;
  readonly writeBack: Pick<WriteBackView, 'backlogs'>;
  readonly nowMs: () => number;
  readonly startedMs: number;
  readonly peerAddresses: readonly string[];
}

/** Answer of `GET /v1/status`. */
export async function originStatus(parts: StatusParts): Promise<unknown> {
  const {
    selfId,
    cluster,
    store,
    fetches,
    swarms,
    uploads,
    replicator,
    writeBehind,
    backends,
    recovery,
    scrubber,
    health,
    room,
    writeBack,
    nowMs,
    startedMs,
    peerAddresses,
  } = parts;
  return {
    role: 'origin',
    id: selfId,
    clusterVersion: cluster.version,
    uptimeMs: nowMs() - startedMs,
    peers: peerAddresses,
    storedBytes: store.usage(),
    disk: { freeBytes: room.freeBytes, full: room.isFull },
    uploadsOpen: uploads.open,
    copiesOwed: replicator.owed(),
    backend: writeBehind.backlog,
    backends: backendStates(backends, writeBehind),
    owed: recovery.owed(),
    writeBack: writeBack.backlogs(),
    scrub: { ...scrubber.pass, damaged: scrubber.damaged },
    suspects: health.suspects,
    fetches: [...fetches].map((fetch) => ({
      digest: fetch.name.digest,
      upstream: fetch.name.upstream,
      repository: fetch.name.repository,
      state: fetch.state,
      sizeBytes: fetch.sizeBytes,
      pieces: fetch.metainfo?.pieceCount,
      have: fetch.have?.count,
      connections: fetch.upstreamConnections,
    })),
    swarms: [...swarms.stats()],
  };
}
