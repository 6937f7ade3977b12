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
import { fileNameOf, type LayerStatus, Layers } from './layers/layers.ts';

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
    const layers = new Layers(
      { log, source, onFetched: (bytes) => fetched.inc(bytes) },
      { dir: join(config.data, 'layers'), bootId: await bootId() },
    );
    stops.push('layers', () => layers.close());
    const opened = [];
    for (const { index, image } of config.layers) opened.push(await layers.add(index, image));
    const server = new FuseServer(
      { log, readMiss: (name, offset, size) => layers.read(name, offset, size), onEnd },
      { fd: fuseFd, mountPoint: config.mount },
      layers.files(),
    );
    stops.push('fuse', () => server.stop());
    await setReadahead(config.mount, config.readahead).catch((error: unknown) =>
      logFailure(log, error, 'readahead of the mount could not be set; cold reads are slower'),
    );
    const door = new ContentCache(config['content-cache']);
    for (const layer of opened)
      if (layer !== undefined)
        await door.publish(layer.index.diffId, join(config.mount, fileNameOf(layer.index.diffId)));
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
