import type { BlobBackend } from '@sepia/backend/blob-backend';
import type { Logger } from '@sepia/base/log';
import type { Metrics } from '@sepia/base/metrics';
import { type Cluster, shardKey } from '@sepia/cluster/cluster';
import { isMoving } from '@sepia/cluster/membership';
import type { RecordStore } from '@sepia/records/store/record-store';
import type { BlobStore } from '@sepia/store/blob-store';
import type { Blobs } from '../blobs/blobs.ts';
import type { Replicator } from '../blobs/replicator.ts';
import type { Swarms } from '../blobs/swarms.ts';
import type { Members } from '../cluster/members.ts';
import type { Fence } from '../fence/core/fence.ts';
import type { Manifests } from '../manifests/manifests.ts';
import type { Links } from '../records/links.ts';
import type { OwnStanding } from '../records/own-standing.ts';
import type { QuorumSet } from '../records/quorum-set.ts';
import type { Tags } from '../records/tags.ts';
import type { Invalidation } from '../removal/invalidation.ts';
import { BlobReader } from '../replication/blob-reader.ts';
import { Collector, type CollectorDeps } from './collector.ts';
import { OwnContent } from './own-content.ts';
import { type OwnGc, Peers, refused } from './peers.ts';
import { GcSchedule } from './schedule.ts';
import { smallBlobs } from './small-blobs.ts';

interface GcDeps {
  readonly cluster: Cluster;
  /** Of all upstreams that have one, by name. */
  readonly backends: ReadonlyMap<string, BlobBackend>;
  /** Name of this cluster at backends. */
  readonly owner: string;
  readonly members: Members;
  readonly records: RecordStore;
  readonly standing: Pick<OwnStanding, 'requireAll'>;
  readonly sets: Readonly<Record<'links' | 'referrers', unknown>>;
  readonly store: BlobStore;
  readonly swarms: Pick<Swarms, 'forget'>;
  readonly replicator: Pick<Replicator, 'overdue'>;
  readonly tags: Tags;
  readonly manifests: Manifests;
  readonly blobs: Blobs;
  readonly links: Pick<Links, 'find'>;
  readonly invalidation: Invalidation;
  readonly fence: Fence;
  readonly elapsedMs: () => number;
  readonly metrics: Metrics;
  readonly log: Logger;
  readonly nowMs: () => number;
}

interface GcOptions {
  /** In ms; `never`: only when an operator says so. */
  readonly every: number | 'never';
  /** In ms. */
  readonly grace: number;
}

/** The parts of garbage collection at one origin: what it answers for itself, what it leads, its schedule. */
export function createGc(deps: GcDeps, options: GcOptions) {
  const { cluster, members, records, standing, store, swarms, replicator, fence, elapsedMs, metrics, nowMs } =
    deps;
  const sets = deps.sets as Readonly<Record<'links' | 'referrers', QuorumSet<unknown>>>;
  const owns = (upstream: string, repository: string): boolean =>
    members.placement(shardKey(upstream, repository)).owners.includes(members.selfId);
  const content = new OwnContent({ records, standing, owns, store, swarms, fence, nowMs, elapsedMs });
  const own: OwnGc = {
    content,
    ready: async () => {
      standing.requireAll();
      return { clusterVersion: cluster.version, owed: await replicator.overdue() };
    },
    condemn: (generation, keys) => {
      if (isMoving(cluster.membership)) throw refused(`the ring changes: ${cluster.membership.change}`);
      const busy = fence.condemn(generation, keys, elapsedMs());
      if (busy !== false) return busy;
      throw refused('another collection runs, or ended without a word within the last minute');
    },
    release: (generation) => fence.release(generation),
    bury: async (generation, shard, dead) =>
      await content.bury(generation, shard, dead, {
        links: async (list) => await sets.links.here.buryOwn(shard, list),
        referrers: async (list) => await sets.referrers.here.buryOwn(shard, list),
      }),
  };
  const peers = new Peers({ members, own });
  const collector = new Collector({
    ...deps,
    // What a pull-through source holds is its own.
    backends: new Map([...deps.backends].filter(([name]) => cluster.upstream(name).mode === 'none')),
    selfId: members.selfId,
    bytesOf: smallBlobs({ ...deps, reader: new BlobReader(deps) }),
    peers,
    ...sweptCounters(metrics),
  });
  metrics.gauge('sepia_origin_gc_running', '1 while this origin leads a garbage collection.', () =>
    collector.isRunning ? 1 : 0,
  );
  metrics.gauge(
    'sepia_origin_gc_condemned',
    'Links and blobs behind the fence of a collection.',
    () => fence.size,
  );
  metrics.gauge(
    'sepia_origin_gc_ended_timestamp_seconds',
    'When a collection led from here last ended well; 0 if none did since the start.',
    () => (collector.endedWellMs ?? 0) / 1_000,
  );
  const everyMs = options.every === 'never' ? 0 : options.every;
  const schedule = new GcSchedule({ ...deps, collector }, { everyMs, graceMs: options.grace });
  const stop = async (): Promise<void> => {
    await Promise.all([schedule.stop(), collector.stop()]);
  };
  return { own, peers, collector, schedule, stop };
}

/** Counts what collections led from here took. */
function sweptCounters(metrics: Metrics): Pick<CollectorDeps, 'onSwept' | 'onWithdrawn'> {
  const swept = metrics.counter('sepia_origin_gc_links_total', 'Links that collections led from here took.');
  const blobs = metrics.counter(
    'sepia_origin_gc_blobs_total',
    'Files of blobs that collections led from here took off disks, copies counted.',
  );
  const bytes = metrics.counter(
    'sepia_origin_gc_bytes_total',
    'Bytes that collections led from here took off disks, copies counted.',
  );
  const fromBackend = {
    blobs: metrics.counter(
      'sepia_origin_gc_backend_blobs_total',
      'Blobs that collections led from here took out of backends.',
      ['upstream'],
    ),
    bytes: metrics.counter(
      'sepia_origin_gc_backend_bytes_total',
      'Bytes that collections led from here took out of backends.',
      ['upstream'],
    ),
  };
  return {
    onSwept: (one) => {
      swept.inc(one.links);
      blobs.inc(one.blobs);
      bytes.inc(one.bytes);
    },
    onWithdrawn: (upstream, gone) => {
      fromBackend.blobs.inc({ upstream }, gone.blobs);
      fromBackend.bytes.inc({ upstream }, gone.bytes);
    },
  };
}
