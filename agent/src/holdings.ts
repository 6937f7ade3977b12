import type { BlobName } from '@sepia/base/names/blob-name';
import { LINK_BELIEF_MS, LinkLedger } from '@sepia/cluster/core/link-ledger';
import type { Scrubber } from '@sepia/store/scrubber';
import type { SwarmEngine } from '@sepia/swarm/shell/engine';
import { listenForPeers, memberEngine } from '@sepia/swarm/shell/member-engine';
import { BlobTable } from './blobs/blob-table.ts';
import { Hints } from './blobs/core/hints.ts';
import { type LinkProofs, Links } from './blobs/links.ts';
import { Seeds } from './blobs/seeds.ts';
import { soundness } from './blobs/soundness.ts';
import type { Wish } from './cluster/wish.ts';
import type { PieceSource } from './downloads/download-deps.ts';
import { ClusterGuide } from './downloads/guide.ts';
import type { Ground, Outside } from './ground.ts';
import { Manifests } from './manifests/manifests.ts';
import { LeaseBook } from './node/core/lease-book.ts';

/** Most links remembered that the cluster vouched for. */
const MAX_PROOFS = 100_000;

/** The swarms of a node: the engine, its ports, and the book of what it tells the trackers. */
interface NodeSwarms {
  readonly engine: SwarmEngine;
  /** Addresses of the swarm ports. */
  readonly listening: readonly string[];
  /** Addresses that other members are told. */
  readonly addresses: () => readonly string[];
  readonly book: LeaseBook;
}

/** All that blobs and manifests are served from: cache, downloads, links. */
export interface Holdings extends NodeSwarms {
  readonly hints: Hints;
  readonly seeds: Seeds;
  readonly links: Links;
  readonly blobs: BlobTable;
  readonly manifests: Manifests;
  readonly scrubber: Scrubber;
}

/** Opens the swarm ports and all that blobs and manifests are served from. @throws {CodedError} `CONFIG_INVALID` */
export async function openHoldings(ground: Ground, outside: Outside): Promise<Holdings> {
  const { config, cluster, store, metrics, bytes, nodeId, log, stops } = ground;
  const { trackers } = outside;
  const swarms = await openSwarmPorts(ground, outside);
  const { engine, addresses, book } = swarms;
  const hints = new Hints();
  const proofs: LinkProofs = new LinkLedger({
    beliefMs: (upstream) => (cluster.takesDeletes(upstream) ? LINK_BELIEF_MS.node : undefined),
    limit: MAX_PROOFS,
  });
  const seeds = new Seeds({
    store,
    engine,
    book,
    trackerIds: (digest) => trackers.trackerIds(digest),
    log,
  });
  stops.push('seeds', () => seeds.stop());
  store.onEvicted((digest) => seeds.drop(digest));
  const links = new Links({ ...ground, ...outside, proofs, hints, seeds });
  const guideDeps = { ...outside, nodeId, addresses, zone: config.zone };
  const guideOf = (name: BlobName, wish?: Wish): ClusterGuide => new ClusterGuide(guideDeps, name, wish);
  const onBytes = (source: PieceSource | 'cache', count: number): void => bytes.inc({ source }, count);
  const { cached, scrubber } = soundness(
    { ...ground, seeds, guideOf, onBytes },
    { rateBytesPerSec: config.scrub.rate, everyMs: config.scrub.every },
  );
  seeds.onComplaint((digest, index) => cached.lookBehind(digest, index));
  const bad = metrics.counter('sepia_swarm_pieces_bad_total', 'Pieces that did not match their hash.');
  const { deadlines } = config;
  const options = {
    backToSource: backToSource(config),
    patience: { progressMs: deadlines['download-progress'], stallMs: deadlines['body-stall'] },
  };
  const blobs = new BlobTable(
    { ...ground, ...outside, engine, hints, seeds, guideOf, onBytes, cached, onBadPiece: () => bad.inc() },
    options,
  );
  stops.push('downloads', () => blobs.stop());
  ground.metrics.gauge(
    'sepia_agent_disk_full',
    '1 from a blob that the cache disk refused until one that it took.',
    () => (blobs.warnings.length === 0 ? 0 : 1),
  );
  const manifests = new Manifests({ ...ground, ...outside, hints, proofs }, options);
  return { ...swarms, hints, seeds, links, blobs, manifests, scrubber };
}

/** When the upstream itself is asked. */
export function backToSource(config: Ground['config']): {
  readonly mode: 'never' | 'auto';
  readonly afterMs: number;
} {
  return { mode: config['back-to-source'].mode, afterMs: config['back-to-source'].after };
}

async function openSwarmPorts(
  { config, cluster, clusterKey, nodeId, log, stops }: Ground,
  { encryption }: Pick<Outside, 'encryption'>,
): Promise<NodeSwarms> {
  const { policies } = cluster.document;
  const engine = memberEngine({ clusterKey, log, policies, encryption }, { id: nodeId, zone: config.zone });
  stops.push('swarm', () => engine.stop());
  const listening = await listenForPeers(engine, config['peer-listen']);
  return { engine, listening, addresses: () => config.advertise ?? listening, book: new LeaseBook() };
}
