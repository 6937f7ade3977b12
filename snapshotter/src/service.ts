import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fewAtOnce } from '@sepia/base/async/few-at-once';
import { CodedError } from '@sepia/base/errors';
import { logFailure } from '@sepia/base/failure';
import { StopStack, startAll } from '@sepia/base/lifecycle';
import { createLogger, type Logger } from '@sepia/base/log';
import { Metrics } from '@sepia/base/metrics';
import type { Adjustable } from '@sepia/base/process';
import { steadyMs } from '@sepia/base/reach';
import { startAdmin } from '@sepia/http/admin';
import { createDispatcher, type Dispatcher } from '@sepia/http/sockets';
import { budgetOf } from '@sepia/store/core/eviction';
import Koa from 'koa';
import { checkSnapshotter } from './check.ts';
import { checkLayers } from './check-layers.ts';
import type { SnapshotterConfig } from './config.ts';
import { makeDebugProof } from './debug-proof.ts';
import { ContainerdSnapshots } from './doors/containerd-snapshots.ts';
import { ContentCache } from './doors/content-cache.ts';
import { mountLack } from './files/mounts.ts';
import { fillLayers } from './fill-layers.ts';
import { FuseServer } from './fuse/fuse-server.ts';
import { setReadahead } from './fuse/readahead.ts';
import { AgentSource } from './layers/agent-source.ts';
import { CacheKeeper } from './layers/cache-keeper.ts';
import { IndexFolder } from './layers/index-folder.ts';
import { fileNameOf, type LayerStatus, Layers } from './layers/layers.ts';
import type { LazyLayer } from './layers/lazy-layer.ts';
import { readPaths } from './layers/named-files.ts';
import { Findable } from './offers/core/findable.ts';
import type { ImageStatus } from './offers/image-table.ts';
import { type OfferSide, openOffers } from './offers/open-offers.ts';
import { StartReads } from './offers/start-reads.ts';
import { looksOf, Readiness } from './readiness.ts';
import { Grants } from './snapshots/core/grants.ts';
import { openSnapshots } from './snapshots/open-snapshots.ts';
import type { Snapshots } from './snapshots/snapshots.ts';

/** What tests give instead of the process's own. */
export interface SnapshotterGiven {
  readonly log?: Logger;
}

/** `adjust`: the log level and the budget of a new config, at once. */
export interface Snapshotter extends Adjustable<SnapshotterConfig> {
  status(): LayerStatus[];
}

/** Layers that are opened at once at a start: more than the processes that make their images have to do. */
const OPENED_AT_ONCE = 16;

type OnEnd = (why: 'unmounted' | 'failed') => void;

/**
 * Starts the daemon of a node: opens its layers, serves the mount whose `/dev/fuse` is `fuseFd`, shows the layers to
 * containerd, then takes images that are pulled. `onEnd` is called when the mount is gone.
 */
export async function startSnapshotter(
  config: SnapshotterConfig,
  fuseFd: number,
  onEnd: OnEnd,
  given: SnapshotterGiven = {},
): Promise<Snapshotter> {
  const stops = new StopStack();
  const log = given.log ?? createLogger('snapshotter', 'node', config.log.level);
  return await startAll(stops, async () => await build({ config, fuseFd, onEnd, log, stops }));
}

interface Parts {
  readonly config: SnapshotterConfig;
  readonly fuseFd: number;
  readonly onEnd: OnEnd;
  readonly log: Logger;
  readonly stops: StopStack;
}

async function build({ config, fuseFd, onEnd, log, stops }: Parts): Promise<Snapshotter> {
  const metrics = new Metrics('snapshotter', 'node');
  const dispatcher = createDispatcher();
  stops.push('dispatcher', () => dispatcher.destroy());
  const { nodeSecret: secret } = checkSnapshotter(config);
  const at = { url: config.agent, deadlineMs: config['read-deadline'], secret };
  const source = new AgentSource({ dispatcher }, at);
  await mkdir(config.data, { recursive: true, mode: 0o700 });
  const door = new ContentCache(config['content-cache']);
  // A layer that is whole and right is mounted from its file, without us in between; what is mounted already stays as it is.
  const fileOf = (layer: LazyLayer): string =>
    layer.isSound ? layer.imagePath : join(config.mount, fileNameOf(layer.index.diffId));
  const show = async (layer: LazyLayer): Promise<void> => {
    // Where containerd asks our own snapshotter, nothing looks into the folder.
    if (config['snapshots-socket'] === undefined) await door.publish(layer.index.diffId, fileOf(layer));
  };
  const grants = new Grants();
  const indexes = new IndexFolder(join(config.data, 'indexes'));
  const layers = await openLayers({ config, source, indexes, metrics, log }, stops);
  const mount = await serveMount({ config, fuseFd, onEnd, layers, log }, stops);
  await showAgain({ config, door, layers, show, log });
  checkLayers({ layers, door, fileOf, metrics, log }, config.scrub, stops);
  const second = await openSnapshots({ config, layers, grants, fileOf, metrics, log });
  if (second !== undefined) stops.push('snapshots', () => second.stop());
  const starts = new StartReads({ log }, { paths: await readPaths(config['fill-first'], log) });
  const kept = { config, layers, indexes, door, show, fuse: mount.fuse, snapshots: second, metrics, log };
  const pulls =
    secret === undefined
      ? undefined
      : await takePulls({ ...kept, dispatcher, source, grants, starts }, secret, stops);
  fillLayers(
    { layers, starts, mount, cache: pulls?.cache, images: pulls?.offers.images, log },
    config.fill,
    stops,
  );
  await openAdmin({ config, dispatcher, layers, mount, pulls, metrics, log }, stops);
  log.info({ layers: layers.files().length, mount: config.mount }, 'snapshotter is ready');
  const adjust = (next: SnapshotterConfig): void => putInForce(next, log, pulls?.cache);
  return { status: () => layers.status(), adjust, stop: () => stops.stop() };
}

/** Opens the layers of the config, and those that pulls brought in earlier runs. */
async function openLayers(
  parts: {
    readonly config: SnapshotterConfig;
    readonly source: AgentSource;
    readonly indexes: IndexFolder;
    readonly metrics: Metrics;
    readonly log: Logger;
  },
  stops: StopStack,
): Promise<Layers> {
  const { config, source, indexes, metrics, log } = parts;
  const fetched = metrics.counter(
    'sepia_snapshotter_fetched_bytes_total',
    'Compressed bytes read from the agent.',
  );
  const layers = new Layers(
    {
      log,
      source,
      onFetched: (bytes) => fetched.inc(bytes),
    },
    { dir: join(config.data, 'layers'), bootId: await bootId() },
  );
  stops.push('layers', () => layers.close());
  await fewAtOnce(config.layers, OPENED_AT_ONCE, async ({ index, image }) => {
    await layers.add(index, image);
  });
  await fewAtOnce(await indexes.list(), OPENED_AT_ONCE, async (kept) => {
    await layers.reopen(kept);
  });
  metrics.gauge('sepia_snapshotter_layers', 'Layers that are shown.', () => layers.files().length);
  metrics.gauge(
    'sepia_snapshotter_disk_full',
    '1 while the disk takes nothing of what is read of layers: it is full, read-only or fails.',
    () => (layers.isDiskFull ? 1 : 0),
  );
  return layers;
}

/** The mount, and when programs read of it last what was not here (ms of `performance.now`). */
interface Mount {
  readonly fuse: FuseServer;
  readonly lastReadMs: () => number;
}

async function serveMount(
  parts: Pick<Parts, 'config' | 'fuseFd' | 'onEnd' | 'log'> & { readonly layers: Layers },
  stops: StopStack,
): Promise<Mount> {
  const { config, fuseFd, onEnd, layers, log } = parts;
  let lastReadMs = 0;
  const readMiss = async (name: string, offset: number, size: number): Promise<Buffer> => {
    try {
      return await layers.read(name, offset, size);
    } finally {
      lastReadMs = performance.now();
    }
  };
  const fuse = new FuseServer(
    { log, readMiss, onEnd },
    { fd: fuseFd, mountPoint: config.mount },
    layers.files(),
  );
  layers.follow({ opened: (file) => fuse.show(file) });
  stops.push('fuse', () => fuse.stop());
  await setReadahead(config.mount, config.readahead).catch((error: unknown) =>
    logFailure(log, error, 'readahead of the mount could not be set; cold reads are slower'),
  );
  return { fuse, lastReadMs: () => lastReadMs };
}

/** What makes pulls lazy, and keeps what they brought within its budget. */
interface Pulls {
  readonly offers: OfferSide;
  readonly cache: CacheKeeper;
}

/** Begins to take images that are pulled from the agent, which knows us by the node's secret. */
async function takePulls(
  parts: Omit<Kept, 'findable'> & {
    readonly dispatcher: Dispatcher;
    readonly source: AgentSource;
    readonly grants: Grants;
    readonly starts: StartReads;
  },
  secret: Uint8Array,
  stops: StopStack,
): Promise<Pulls> {
  const { config, layers, door, starts } = parts;
  const shown = (await door.list()).map(({ diffId }) => diffId);
  const findable = config['snapshots-socket'] === undefined ? new Findable(shown) : undefined;
  const expectStart: StartReads['expect'] = (...start) => {
    // Where only what is read may be fetched, nothing is guessed.
    if (config.fill !== 'none') starts.expect(...start);
  };
  const offers = await openOffers({ ...parts, findable, expectStart }, secret);
  stops.push('offers', () => offers.stop());
  const cache = keepCache({ ...parts, findable }, stops);
  layers.follow({
    mismatched: (layer, error) => offers.complain(layer, error),
    used: (layer) => cache.shown(layer),
  });
  return { offers, cache };
}

async function openAdmin(
  parts: {
    readonly config: SnapshotterConfig;
    readonly dispatcher: Dispatcher;
    readonly layers: Layers;
    readonly mount: Mount;
    readonly pulls: Pulls | undefined;
    readonly metrics: Metrics;
    readonly log: Logger;
  },
  stops: StopStack,
): Promise<void> {
  const { config, dispatcher, layers, mount, pulls, metrics, log } = parts;
  const { fuse } = mount;
  metrics.gauge('sepia_snapshotter_waiting_reads', 'Reads that wait for their bytes.', () => fuse.missing);
  const images = (): readonly ImageStatus[] => pulls?.offers.images.list() ?? [];
  countImages(metrics, images);
  const looks = await looksOf({ config, dispatcher, fuse });
  const readiness = new Readiness({ looks, log, nowMs: steadyMs, refused: () => pulls?.offers.refusal() });
  readiness.start();
  stops.push('readiness', () => readiness.stop());
  const admin = await startAdmin(
    {
      log,
      metrics,
      notReady: () => readiness.notReady,
      warnings: () =>
        [pulls?.offers.lack(), pulls?.cache.fill.lack, diskLack(layers, config.data), mountLack()].filter(
          (one) => one !== undefined,
        ),
      app: new Koa(),
      debug: {
        ...{ layers: () => layers.status(), reads: () => layers.reads(), images },
        cache: () => (pulls === undefined ? [] : [pulls.cache.fill]),
        door: () => doorOf(config),
      },
      debugProof: await makeDebugProof(config.data, config['admin-listen'], log),
    },
    config['admin-listen'],
  );
  stops.push('admin', () => admin.stop(0));
}

function diskLack({ isDiskFull }: Pick<Layers, 'isDiskFull'>, data: string): string | undefined {
  return isDiskFull
    ? `the disk of ${data} is full, read-only or fails: what is read of lazy layers is fetched again and again; make room, or look after it`
    : undefined;
}

function putInForce(config: SnapshotterConfig, log: Logger, cache: CacheKeeper | undefined): void {
  log.level = config.log.level;
  cache?.adjust(budgetOf(config.cache));
}

function countImages(metrics: Metrics, images: () => readonly ImageStatus[]): void {
  const count = (isLazy: boolean): number => images().filter((one) => one.isLazy === isLazy).length;
  metrics.gauge('sepia_snapshotter_images_lazy', 'Images that were lazy when pulled here last.', () =>
    count(true),
  );
  metrics.gauge('sepia_snapshotter_images_ordinary', 'Images that were not; lazy status says why.', () =>
    count(false),
  );
}

/** Which door the config opens, and where containerd finds it. */
function doorOf(config: SnapshotterConfig): { readonly door: 1 | 2; readonly at: string } {
  const socket = config['snapshots-socket'];
  return socket === undefined ? { door: 1, at: config['content-cache'] } : { door: 2, at: socket };
}

interface Kept {
  readonly config: SnapshotterConfig;
  readonly layers: Layers;
  readonly indexes: IndexFolder;
  readonly door: ContentCache;
  readonly findable: Findable | undefined;
  readonly show: (layer: LazyLayer) => Promise<void>;
  readonly fuse: FuseServer;
  /** Door 2: what it has on record is what is in use. */
  readonly snapshots: Pick<Snapshots, 'layers'> | undefined;
  readonly metrics: Metrics;
  readonly log: Logger;
}

/** Keeps the layers that came by pulls within their budget. */
function keepCache(kept: Kept, stops: StopStack): CacheKeeper {
  const { config, layers, indexes, door, findable, show, fuse, snapshots, metrics, log } = kept;
  const containerd = snapshots === undefined ? new ContainerdSnapshots(config.containerd) : undefined;
  if (containerd !== undefined) stops.push('containerd', () => containerd.close());
  const keeper = new CacheKeeper(
    {
      layers,
      held: async () => await (snapshots ?? containerd!).layers(),
      withdraw: (layer, mayGo) => door.withdraw(layer.index.diffId, mayGo),
      show,
      hide: (name) => fuse.hide(name),
      leaving: (layer) => {
        findable?.hidden(layer.index.diffId);
        return indexes.forgetting(layer.index.layer);
      },
      log,
      nowMs: steadyMs,
    },
    budgetOf(config.cache),
  );
  stops.push('cache', () => keeper.stop());
  metrics.gauge('sepia_snapshotter_cache_bytes', 'Disk that layers take.', () => keeper.fill.usedBytes);
  metrics.gauge(
    'sepia_snapshotter_cache_budget_bytes',
    'Disk that they may take.',
    () => keeper.fill.budgetBytes,
  );
  metrics.gauge(
    'sepia_snapshotter_layers_in_use',
    'Layers that a snapshot of containerd names.',
    () => keeper.fill.layersInUse,
  );
  metrics.gauge(
    'sepia_snapshotter_layers_removed',
    'Layers that made room since the start.',
    () => keeper.removed,
  );
  return keeper;
}

/**
 * What an earlier run showed goes on being shown, at the same path: a snapshot may name it. Links to what is not here any
 * more are taken away, so that containerd pulls those layers.
 */
async function showAgain(parts: {
  config: SnapshotterConfig;
  door: ContentCache;
  layers: Layers;
  show: (layer: LazyLayer) => Promise<void>;
  log: Logger;
}): Promise<void> {
  const { config, door, layers, show, log } = parts;
  const local = new Set(config.layers.map((one) => one.index));
  const wanted = new Set(
    layers
      .status()
      .flatMap((one) => (local.has(one.indexFile) && one.state !== 'hidden' ? [one.diffId] : [])),
  );
  for (const { diffId, target } of await door.list()) {
    if (layers.byDiffId(diffId) !== undefined) wanted.add(diffId);
    else if (target.startsWith(`${config.mount}/`) || target.startsWith(`${config.data}/`)) {
      log.warn({ diffId }, 'a layer that is not here any more is not shown any longer');
      await door.withdraw(diffId);
    }
  }
  for (const layer of layers.shown()) if (wanted.has(layer.index.diffId)) await show(layer);
}

async function bootId(): Promise<string> {
  const id = (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
  if (id.length !== 36) throw new CodedError('START_FAILED', { message: `boot id "${id}" is none` });
  return id;
}
