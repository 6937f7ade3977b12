import type { Metrics } from '@sepia/base/metrics';
import type { Cluster } from '@sepia/cluster/cluster';
import type { Health } from '@sepia/cluster/core/health';
import type { BlobStore } from '@sepia/store/blob-store';
import type { DiskRoom } from '@sepia/store/disk-room';
import type { BlobIndex } from './blobs/blob-index.ts';
import type { Swarms } from './blobs/swarms.ts';
import type { Uploads } from './blobs/uploads.ts';
import type { Fetches } from './fetch/fetches.ts';
import type { Recovery } from './recovery/recovery.ts';

interface GaugedParts {
  readonly cluster: Pick<Cluster, 'epoch'>;
  readonly fetches: Fetches;
  readonly uploads: Uploads;
  readonly swarms: Swarms;
  readonly store: BlobStore;
  readonly room: DiskRoom;
  readonly health: Health;
  readonly recovery: Recovery;
  readonly index: BlobIndex;
}

/** Gauges of an origin's parts, read when they are asked for. */
export function originGauges(metrics: Metrics, parts: GaugedParts): void {
  const { cluster, fetches, uploads, swarms, store, room, health, recovery, index } = parts;
  metrics.gauge(
    'sepia_origin_ring_epoch',
    "Epoch of the ring's membership; odd while a change is under way.",
    () => cluster.epoch,
  );
  metrics.gauge('sepia_origin_fetches', 'Blobs that are being fetched from an upstream.', () => fetches.size);
  metrics.gauge('sepia_origin_uploads_open', 'Open upload sessions.', () => uploads.open);
  metrics.gauge('sepia_origin_swarms', 'Swarms that this origin is in.', () => swarms.size);
  metrics.gauge('sepia_origin_store_bytes', 'Bytes of blobs on disk.', () => store.usage());
  metrics.gauge('sepia_origin_disk_free_bytes', 'Free bytes of the data disk.', () => room.freeBytes);
  metrics.gauge('sepia_origin_disk_full', '1 while the data disk takes no blobs.', () =>
    room.isFull || room.isFailing ? 1 : 0,
  );
  metrics.gauge('sepia_origin_records_refused', '1 while the database of records takes no writes.', () =>
    recovery.isRefusing ? 1 : 0,
  );
  metrics.gauge(
    'sepia_origin_owed_blobs',
    'Pushed blobs that other origins have and this one still has to get.',
    () => index.wanted,
  );
  metrics.gauge(
    'sepia_origin_owed_copies',
    'Copies of pushed blobs that this origin still has to send.',
    () => recovery.copiesOwed,
  );
  metrics.gauge(
    'sepia_origin_owed_records',
    'Parts of the records that differ from those of another origin; 1 before they were compared, and the disk looked through; 0 outside the ring.',
    () => recovery.owed().records ?? 1,
  );
  metrics.gauge(
    'sepia_origin_former_records',
    'Records here that other origins own since the ring changed, not yet confirmed by all of them; NaN before they were looked through.',
    () => recovery.formerRecords,
  );
  metrics.gauge(
    'sepia_origin_under_replicated',
    '1 while copies of what was pushed are missing somewhere, or an origin that keeps some is away.',
    () => (recovery.warnings.length > 0 ? 1 : 0),
  );
  metrics.gauge('sepia_origin_settled', '1 once what this origin says of records counts.', () =>
    recovery.startUp.waiting === undefined ? 1 : 0,
  );
  metrics.gauge('sepia_origin_suspects', 'Origins that did not answer lately.', () => health.suspects.length);
}

/** Counters of blobs: what upstreams sent and failed, and what was answered. Those of `upstreams` are there from the start. */
export function byteCounters(metrics: Metrics, upstreams: readonly { readonly name: string }[]) {
  const bytes = metrics.counter(
    'sepia_origin_upstream_bytes_total',
    'Bytes of blobs fetched from an upstream; not what is read there to prove or mend one.',
    ['upstream'],
  );
  for (const { name } of upstreams) bytes.inc({ upstream: name }, 0);
  const failures = metrics.counter(
    'sepia_origin_upstream_failures_total',
    'Fetches of blobs from an upstream or backend that failed, by code: UPSTREAM_LIES is wrong content, BLOB_UNKNOWN is none.',
    ['upstream', 'code'],
  );
  return {
    fetched: {
      onUpstreamBytes: (upstream: string, count: number) => bytes.inc({ upstream }, count),
      onFailed: (upstream: string, code: string) => failures.inc({ upstream, code }),
    },
    servedBytes: metrics.counter('sepia_origin_served_bytes_total', 'Bytes of blobs answered over HTTP.'),
  };
}
