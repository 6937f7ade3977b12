import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { CodedError } from '@sepia/base/errors';
import { logFailure } from '@sepia/base/failure';
import { type Stoppable, StopStack, startAll } from '@sepia/base/lifecycle';
import { createLogger, type Logger } from '@sepia/base/log';
import { Metrics } from '@sepia/base/metrics';
import { startAdmin } from '@sepia/http/admin';
import { createDispatcher } from '@sepia/http/sockets';
import Koa from 'koa';
import type { SnapshotterConfig } from './config.ts';
import { ContentCache } from './doors/content-cache.ts';
import { FuseServer } from './fuse/fuse-server.ts';
import { setReadahead } from './fuse/readahead.ts';
import { AgentSource } from './layers/agent-source.ts';
import { Filler } from './layers/filler.ts';
import { fileNameOf, type LayerStatus, Layers } from './layers/layers.ts';
import type { LazyLayer } from './layers/lazy-layer.ts';

/** What tests give instead of the process's own. */
export interface SnapshotterGiven {
  readonly log?: Logger;
}

export interface Snapshotter extends Stoppable {
  status(): LayerStatus[];
}

/**
 * Starts the daemon of a node: opens its layers, serves the mount whose `/dev/fuse` is `fuseFd`, then shows the layers
 * to containerd. `onEnd` is called when the mount is gone.
 */
export async function startSnapshotter(
  config: SnapshotterConfig,
  fuseFd: number,
  onEnd: (why: 'unmounted' | 'failed') => void,
  given: SnapshotterGiven = {},
): Promise<Snapshotter> {
  const stops = new StopStack();
  return await startAll(stops, async () => {
    const log = given.log ?? createLogger('snapshotter', 'node', config.log.level);
    const metrics = new Metrics('snapshotter', 'node');
    const fetched = metrics.counter(
      'sepia_snapshotter_fetched_bytes_total',
      'Compressed bytes read from the agent.',
    );
    const dispatcher = createDispatcher();
    stops.push('dispatcher', () => dispatcher.close());
    const source = new AgentSource(
      { dispatcher },
      { url: config.agent, deadlineMs: config['read-deadline'] },
    );
    await mkdir(config.data, { recursive: true, mode: 0o700 });
    const door = new ContentCache(config['content-cache']);
    // A complete layer is mounted from its file, without us in between; what is mounted already stays as it is.
    const publish = async (layer: LazyLayer): Promise<void> => {
      const { diffId } = layer.index;
      const target = layer.presence.isComplete ? layer.imagePath : join(config.mount, fileNameOf(diffId));
      await door.publish(diffId, target);
    };
    const layers = new Layers(
      {
        log,
        source,
        onFetched: (bytes) => fetched.inc(bytes),
        onComplete: (layer) =>
          void publish(layer).catch((error: unknown) =>
            logFailure(log, error, 'a link could not be written'),
          ),
      },
      { dir: join(config.data, 'layers'), bootId: await bootId() },
    );
    stops.push('layers', () => layers.close());
    for (const { index, image } of config.layers) await layers.add(index, image);
    let lastReadMs = 0;
    const readMiss = async (name: string, offset: number, size: number): Promise<Buffer> => {
      try {
        return await layers.read(name, offset, size);
      } finally {
        lastReadMs = performance.now();
      }
    };
    const server = new FuseServer(
      { log, readMiss, onEnd },
      { fd: fuseFd, mountPoint: config.mount },
      layers.files(),
    );
    stops.push('fuse', () => server.stop());
    await setReadahead(config.mount, config.readahead).catch((error: unknown) =>
      logFailure(log, error, 'readahead of the mount could not be set; cold reads are slower'),
    );
    for (const layer of layers.shown()) await publish(layer);
    if (config.fill === 'all') {
      const reads = (): { waiting: number; lastReadMs: number } => ({ waiting: server.missing, lastReadMs });
      const filler = new Filler({ log, layers: layers.shown(), reads, nowMs: () => performance.now() });
      stops.push('filler', () => filler.stop());
    }
    metrics.gauge('sepia_snapshotter_layers', 'Layers that are shown.', () => layers.files().length);
    metrics.gauge(
      'sepia_snapshotter_waiting_reads',
      'Reads that wait for their bytes.',
      () => server.missing,
    );
    const admin = await startAdmin(
      {
        log,
        metrics,
        notReady: () => undefined,
        app: new Koa(),
        debug: { layers: () => layers.status() },
      },
      config['admin-listen'],
    );
    stops.push('admin', () => admin.stop(0));
    log.info({ layers: layers.files().length, mount: config.mount }, 'snapshotter is ready');
    return { status: () => layers.status(), stop: () => stops.stop() };
  });
}

async function bootId(): Promise<string> {
  const id = (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
  if (id.length !== 36) throw new CodedError('START_FAILED', { message: `boot id "${id}" is none` });
  return id;
}
