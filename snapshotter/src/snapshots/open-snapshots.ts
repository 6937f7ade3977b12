import { existsSync } from 'node:fs';
import { realpath } from 'node:fs/promises';
import { join } from 'node:path';
import type { Stoppable } from '@sepia/base/lifecycle';
import type { Logger } from '@sepia/base/log';
import type { Metrics } from '@sepia/base/metrics';
import { checkOverlayPath } from '../files/mounts.ts';
import type { Layers } from '../layers/layers.ts';
import type { LazyLayer } from '../layers/lazy-layer.ts';
import type { Grants } from './core/grants.ts';
import { LayerMounts } from './layer-mounts.ts';
import { serveSnapshots } from './server.ts';
import { SnapshotFolder } from './snapshot-folder.ts';
import { Snapshots } from './snapshots.ts';

/** There where the kernel's overlays know indexes. */
const INDEX_PARAMETER = '/sys/module/overlay/parameters/index';

/** Keys of the config that it needs. */
interface Places {
  readonly data: string;
  readonly mount: string;
  readonly 'snapshots-socket'?: string | undefined;
}

/** Opens door 2 where the config has its socket. @throws {CodedError} `START_FAILED`, `CONFIG_INVALID` */
export async function openSnapshots(parts: {
  readonly config: Places;
  readonly layers: Layers;
  readonly grants: Grants;
  /** Where a layer's image is now: its file in the mount, or on disk once it is complete. */
  readonly fileOf: (layer: LazyLayer) => string;
  readonly metrics: Metrics;
  readonly log: Logger;
}): Promise<(Stoppable & Pick<Snapshots, 'layers'>) | undefined> {
  const { config, layers, grants, fileOf, metrics, log } = parts;
  const socket = config['snapshots-socket'];
  if (socket === undefined) return undefined;
  // The kernel tells what is mounted by paths without links.
  const [data, source] = [await realpath(config.data), await realpath(config.mount)];
  checkOverlayPath(config.data, data);
  const snapshots = await Snapshots.open({
    folder: new SnapshotFolder({ log }, join(data, 'snapshots')),
    mounts: new LayerMounts({ source }),
    grants,
    layerOf: (diffId) => {
      const layer = layers.byDiffId(diffId);
      if (layer === undefined) return undefined;
      return {
        image: fileOf(layer),
        usage: async () => ({ sizeBytes: await layer.diskBytes(), inodes: 1 }),
        use: () => void layers.use(diffId),
      };
    },
    // With an index a running container's overlay cannot be mounted once more, as a commit of it does. The module may come later.
    overlayOptions: () => (existsSync(INDEX_PARAMETER) ? ['index=off'] : []),
    log,
    nowMs: () => performance.now(),
    wallMs: () => Date.now(),
  });
  metrics.gauge(
    'sepia_snapshotter_snapshots',
    'Committed snapshots of layers that are mounted instead of unpacked.',
    () => snapshots.mountedCount(),
  );
  const served = await serveSnapshots({ snapshots, socket, log });
  return { stop: () => served.stop(), layers: () => snapshots.layers() };
}
