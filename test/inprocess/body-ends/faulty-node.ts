import type { RequestListener } from 'node:http';
import { silentLogger } from '@sepia/base/log';
import type { BlobName } from '@sepia/base/names/blob-name';
import { peerIdOf } from '@sepia/base/names/peer-id';
import { LinkLedger } from '@sepia/cluster/core/link-ledger';
import { createRegistryApp } from '@sepia/face/registry-app';
import { createGate } from '@sepia/http/gate';
import { BlobStore } from '@sepia/store/blob-store';
import type { FilePort } from '@sepia/store/files/file-port';
import { SwarmEngine } from '@sepia/swarm/shell/engine';
import type { SwarmNet } from '@sepia/swarm/shell/net';
import type { UpstreamClient } from '@sepia/upstream/upstream-client';
import { BlobTable } from '../../../agent/src/blobs/blob-table.ts';
import { CachedBlobs } from '../../../agent/src/blobs/cached-blobs.ts';
import { Hints } from '../../../agent/src/blobs/core/hints.ts';
import { type LinkProofs, Links } from '../../../agent/src/blobs/links.ts';
import { Seeds } from '../../../agent/src/blobs/seeds.ts';
import { CallWatch } from '../../../agent/src/cluster/members.ts';
import { OriginClient } from '../../../agent/src/cluster/origin-client.ts';
import { TrackerClient } from '../../../agent/src/cluster/tracker-client.ts';
import type { Wish } from '../../../agent/src/cluster/wish.ts';
import { ClusterGuide } from '../../../agent/src/downloads/guide.ts';
import { agentHandlers } from '../../../agent/src/http/handlers.ts';
import { Manifests } from '../../../agent/src/manifests/manifests.ts';
import type { TagMemory } from '../../../agent/src/manifests/tag-memory.ts';
import { SourceGate } from '../../../agent/src/source/source-gate.ts';
import { CLUSTER_KEY, type FaultyCluster } from './faulty-cluster.ts';

const NODE = 'agent-1';
/** As the config's defaults. */
const PROGRESS_MS = 10_000;
const STALL_MS = 30_000;

interface NodeDeps {
  readonly cluster: FaultyCluster;
  readonly upstream: UpstreamClient;
  readonly files: FilePort;
  readonly net: SwarmNet;
  readonly tags: TagMemory;
}

/** Bytes by where they came from, and pieces that did not match their hash. */
export interface Came {
  peer: number;
  origin: number;
  upstream: number;
  cache: number;
  badPieces: number;
}

/** The parts of an agent that blobs and manifests leave through, as they ship, on a cluster with faults. */
export async function faultyNode({ cluster: client, upstream, files, net, tags }: NodeDeps): Promise<{
  readonly listener: RequestListener;
  readonly came: Came;
  stop(): Promise<void>;
}> {
  const { cluster } = client;
  const log = silentLogger();
  const nowMs = Date.now;
  const none = (): void => undefined;
  const store = await BlobStore.open(
    { files, dir: '/d', log, nowMs },
    { durable: false, bootId: 'one', mapDelayMs: 1e6 },
  );
  const health = new CallWatch(nowMs);
  const origins = new OriginClient({ cluster, client, health });
  const trackers = new TrackerClient({ cluster, client, health });
  const engine = new SwarmEngine({ clusterKey: CLUSTER_KEY, peerId: peerIdOf(NODE), log, net });
  const hints = new Hints();
  const proofs: LinkProofs = new LinkLedger({ beliefMs: () => undefined, limit: 1_000 });
  const book = { touch: () => undefined, drop: none };
  const seeds = new Seeds({ store, engine, book, trackerIds: () => [], log });
  const links = new Links({ proofs, hints, origins, store, seeds, log, nowMs });
  const guideDeps = { health, trackers, origins, nodeId: NODE, addresses: () => [], zone: undefined };
  const guideOf = (name: BlobName, wish?: Wish): ClusterGuide => new ClusterGuide(guideDeps, name, wish);
  const rot = { onRotten: none, onMended: none, onUnmended: none };
  const cached = new CachedBlobs({ store, seeds, guideOf, log, onBytes: none, rot });
  seeds.onComplaint((digest, index) => cached.lookBehind(digest, index));
  const shared = {
    ...{ cluster, client, origins, health, store, engine, hints, seeds, guideOf, cached, log, nowMs, proofs },
    ...{ nodeId: NODE, gate: new SourceGate(2), upstreamClient: () => upstream, dateMs: nowMs },
  };
  const options = {
    backToSource: { mode: 'auto', afterMs: 5_000 },
    patience: { progressMs: PROGRESS_MS, stallMs: STALL_MS },
  } as const;
  const came: Came = { peer: 0, origin: 0, upstream: 0, cache: 0, badPieces: 0 };
  const onBytes = (source: Exclude<keyof Came, 'badPieces'>, bytes: number): void => {
    came[source] += bytes;
  };
  const onBadPiece = (): void => {
    came.badPieces += 1;
  };
  const blobs = new BlobTable({ ...shared, dir: 'faulty', onBytes, onBadPiece }, options);
  const handlers = agentHandlers({
    blobs,
    manifests: new Manifests({ ...shared, tags }, options),
    links,
    lazy: { note: none, beforeBlob: () => Promise.resolve() },
    onCacheBytes: (bytes) => onBytes('cache', bytes),
    firstPieceMs: 60_000,
    stallMs: STALL_MS,
  });
  const app = createRegistryApp(
    {
      log,
      gate: createGate({ open: { '/*': 'anyone' } }),
      handlers,
      upstreams: () => cluster.upstreams,
    },
    { defaultUpstream: 'local', readOnly: 'an agent takes no writes' },
  );
  return {
    listener: app.callback(),
    came,
    stop: async () => {
      seeds.stop();
      await blobs.stop();
      await engine.stop();
    },
  };
}
