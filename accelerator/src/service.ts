import { randomInt, randomUUID } from 'node:crypto';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { MemberClock } from '@sepia/base/clock/member-clock';
import { readClusterKey } from '@sepia/base/config/load';
import { CodedError } from '@sepia/base/errors';
import { StopStack, startAll } from '@sepia/base/lifecycle';
import { createLogger, type Logger } from '@sepia/base/log';
import { processMemoryBytes } from '@sepia/base/memory/process-memory';
import { Metrics } from '@sepia/base/metrics';
import { Reach, steadyMs } from '@sepia/base/reach';
import { Cluster } from '@sepia/cluster/cluster';
import { loadClusterDocument } from '@sepia/cluster/load-document';
import { followingClient } from '@sepia/cluster/ring-follower';
import { startAdmin } from '@sepia/http/admin';
import { HttpListener } from '@sepia/http/listener';
import { createDispatcher } from '@sepia/http/sockets';
import { isLayerRecord } from '@sepia/lazy/convert/layer-job';
import { PackPool } from '@sepia/lazy/pack/pool';
import { fittingThreads } from '@sepia/lazy/pack/threads';
import { DataFolder } from '@sepia/store/data-folder';
import { JsonFolder } from '@sepia/store/scratch/json-folder';
import { ScratchFile, sweepScratch } from '@sepia/store/scratch/scratch';
import type { AcceleratorConfig } from './config.ts';
import { apiApp } from './http/api-app.ts';
import { apiGuard } from './http/routes.ts';
import { LayerRecords } from './net/layer-records.ts';
import { Proxies } from './net/proxies.ts';
import { QueueClient } from './net/queue-client.ts';
import { ResultRegistries } from './net/result-registries.ts';
import { runTask } from './run-task.ts';
import { scanForever } from './scan.ts';
import { Worker } from './worker.ts';

/** The queue may be silent for so long before this accelerator is not ready, in ms. */
const PATIENCE_MS = 30_000;
const STOP_GRACE_MS = 3_000;

/** A running accelerator. */
export interface Accelerator {
  readonly url: string;
  readonly adminUrl: string;
  /** The log level and the number of workers of a new config, at once. */
  adjust(config: AcceleratorConfig): void;
  stop(): Promise<void>;
}

/** What an accelerator is given beside its config. */
export interface AcceleratorDeps {
  readonly log?: Logger;
  /** Environment of the process: HTTP proxies before registries. Default: nothing. */
  readonly env?: Readonly<Record<string, string | undefined>>;
}

/** Builds and starts an accelerator. Paths in `config` are absolute. @throws {CodedError} `CONFIG_INVALID`, `START_FAILED` */
export async function startAccelerator(
  config: AcceleratorConfig,
  deps: AcceleratorDeps = {},
): Promise<Accelerator> {
  const cluster = new Cluster(loadClusterDocument(config['cluster-document']));
  const clusterKey = readClusterKey(config['cluster-key-file']);
  const id = config.id ?? 'accelerator';
  const log = deps.log ?? createLogger('accelerator', id, config.log.level);
  const metrics = new Metrics('accelerator', id);
  const guard = apiGuard(config.api);
  const stops = new StopStack();
  return await startAll(stops, async () => {
    const clock = new MemberClock();
    const dateMs = clock.nowMs;
    const chance = (): number => randomInt(2 ** 32) / 2 ** 32;
    const folder = await DataFolder.open({ log }, { dir: config.data, id });
    stops.push('data folder', () => folder.close());
    const work = join(config.data, 'work');
    await sweepScratch(work);
    const oldSignatures = config['old-signatures'];
    const dispatcher = createDispatcher();
    stops.push('sockets', () => dispatcher.destroy());
    const registries = new ResultRegistries({
      cluster,
      credentials: config.credentials,
      env: deps.env ?? {},
      log,
      nowMs: steadyMs,
      dateMs,
    });
    stops.push('registries', () => registries.close());
    const pool = new PackPool(config.threads ?? fittingThreads(availableParallelism(), processMemoryBytes()));
    stops.push('compression threads', () => pool.close());
    const proxies = new Proxies({
      cluster,
      client: followingClient(cluster, log, { dispatcher, clusterKey, memberId: id, clock, oldSignatures }),
    });
    const queue = new QueueClient(proxies);
    const records = new LayerRecords(proxies);
    const ended = metrics.counter('sepia_accelerator_conversions_total', 'Conversions by how they ended.', [
      'outcome',
    ]);
    const shared = {
      cluster,
      proxies,
      registryOf: (upstream: string) => registries.of(upstream),
      cache: new JsonFolder(join(config.data, 'layers'), isLayerRecord),
      packer: pool,
      scratch: () => ScratchFile.create(work),
      records,
      clusterKey,
      memberId: id,
      nowMs: dateMs,
    };
    const reach = new Reach({ whom: 'proxies', patienceMs: PATIENCE_MS });
    const worker = new Worker(
      {
        queue,
        holder: `${id}.${randomUUID()}`,
        log,
        reach,
        onEnd: (outcome) => ended.inc({ outcome }),
        run: async (task, onProgress, signal) =>
          await runTask(
            { ...shared, onProgress: (progress) => onProgress({ layers: progress.view() }) },
            task,
            signal,
          ),
      },
      { workers: config.workers },
    );
    metrics.gauge('sepia_accelerator_running', 'Images that are converted now.', () => worker.running);
    const stopping = new AbortController();
    const app = apiApp({
      cluster,
      queue,
      progressOf: (job) => worker.progressOf(job),
      guard,
      clusterKey,
      selfId: id,
      log,
      metrics,
      clock,
      oldSignatures,
      stopping: stopping.signal,
    });
    const listener = await HttpListener.start(app.callback(), config.listen, 'listen');
    stops.push('listener', () => listener.stop(STOP_GRACE_MS));
    const admin = await startAdmin(
      {
        log,
        metrics,
        app,
        notReady: () => (stopping.signal.aborted ? 'stopping' : reach.lack(performance.now())?.why),
        clock,
      },
      config['admin-listen'],
    );
    stops.push('admin', () => admin.stop(STOP_GRACE_MS));
    worker.start();
    stops.push('worker', () => worker.stop());
    const scanning = scanForever(
      { cluster, proxies, queue, records, log, chance },
      config.scan,
      stopping.signal,
    );
    stops.push('scan', async () => {
      stopping.abort(new CodedError('DRAINING'));
      await scanning;
    });
    log.info(
      { listen: listener.hostPort, admin: admin.hostPort, clusterVersion: cluster.version },
      'accelerator is ready',
    );
    const adjust = (next: AcceleratorConfig): void => putInForce(next, log, worker);
    return { url: listener.url, adminUrl: admin.url, adjust, stop: () => stops.stop() };
  });
}

function putInForce(config: AcceleratorConfig, log: Logger, worker: Worker): void {
  log.level = config.log.level;
  worker.adjust(config.workers);
}
