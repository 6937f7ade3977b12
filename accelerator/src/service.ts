import { randomUUID } from 'node:crypto';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { chance } from '@sepia/base/clock/chance';
import { MemberClock } from '@sepia/base/clock/member-clock';
import { CodedError } from '@sepia/base/errors';
import { StopStack, startAll } from '@sepia/base/lifecycle';
import { createLogger, type Logger } from '@sepia/base/log';
import { processMemoryBytes } from '@sepia/base/memory/process-memory';
import { Metrics } from '@sepia/base/metrics';
import { Reach, steadyMs } from '@sepia/base/reach';
import type { Cluster } from '@sepia/cluster/cluster';
import { diallingOf } from '@sepia/cluster/member-config';
import { followingClient } from '@sepia/cluster/ring-follower';
import { startAdmin } from '@sepia/http/admin';
import { HttpListener } from '@sepia/http/listener';
import { createDispatcher } from '@sepia/http/sockets';
import { listenerTls } from '@sepia/http/tls/listener-tls';
import { LargeLayers } from '@sepia/lazy/convert/large-layers';
import { isLayerRecord } from '@sepia/lazy/convert/layer-job';
import { PackPool } from '@sepia/lazy/pack/pool';
import { fittingThreads } from '@sepia/lazy/pack/threads';
import { DataFolder } from '@sepia/store/data-folder';
import { freeBytesOf } from '@sepia/store/disk-room';
import { JsonFolder } from '@sepia/store/scratch/json-folder';
import { ScratchFile, sweepScratch } from '@sepia/store/scratch/scratch';
import { checkAccelerator } from './check.ts';
import type { AcceleratorConfig } from './config.ts';
import { PATIENCE_MS, STOP_GRACE_MS } from './deadlines.ts';
import { apiApp } from './http/api-app.ts';
import { apiGuard } from './http/routes.ts';
import { LayerRecords } from './net/layer-records.ts';
import { Proxies } from './net/proxies.ts';
import { QueueClient } from './net/queue-client.ts';
import { ResultRegistries } from './net/result-registries.ts';
import { runTask } from './run-task.ts';
import { scanForever } from './scan.ts';
import { Worker } from './worker.ts';

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
  const { env = {} } = deps;
  const { cluster, clusterKey } = await checkAccelerator(config, env);
  const id = config.id ?? 'accelerator';
  const log = deps.log ?? createLogger('accelerator', id, config.log.level);
  const stops = new StopStack();
  const given = { config, env, cluster, clusterKey, id, log, stops };
  return await startAll(stops, async () => {
    const parts = await openParts(given);
    const { worker } = parts;
    const { listener, admin } = await serve(given, parts);
    log.info(
      { listen: listener.hostPort, admin: admin.hostPort, clusterVersion: cluster.version },
      'accelerator is ready',
    );
    const adjust = (next: AcceleratorConfig): void => putInForce(next, log, worker);
    return { url: listener.url, adminUrl: admin.url, adjust, stop: () => stops.stop() };
  });
}

interface Given {
  readonly config: AcceleratorConfig;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly cluster: Cluster;
  readonly clusterKey: Uint8Array;
  readonly id: string;
  readonly log: Logger;
  readonly stops: StopStack;
}

/** The worker with all that it works by, from the disk to the cluster's queue; nothing runs yet. */
async function openParts({ config, env, cluster, clusterKey, id, log, stops }: Given) {
  const metrics = new Metrics('accelerator', id);
  const clock = new MemberClock();
  const dateMs = clock.nowMs;
  const folder = await DataFolder.open({ log }, { dir: config.data, id, role: 'accelerator' });
  stops.push('data folder', () => folder.close());
  const work = join(config.data, 'work');
  await sweepScratch(work);
  const oldSignatures = config['old-signatures'];
  const dialling = diallingOf(cluster, clusterKey, log);
  const dispatcher = createDispatcher(dialling);
  stops.push('sockets', () => dispatcher.destroy());
  const { credentials } = config;
  const registries = new ResultRegistries({
    cluster,
    credentials,
    env,
    log,
    nowMs: steadyMs,
    dateMs,
    member: dialling,
  });
  stops.push('registries', () => registries.close());
  const pool = new PackPool(config.threads ?? fittingThreads(availableParallelism(), processMemoryBytes()));
  stops.push('compression threads', () => pool.close());
  const signing = { dispatcher, clusterKey, memberId: id, clock, oldSignatures };
  const proxies = new Proxies({ cluster, client: followingClient(cluster, log, signing) });
  const queue = new QueueClient(proxies);
  const records = new LayerRecords(proxies);
  const shared = {
    ...{ cluster, proxies, records, clusterKey, memberId: id, nowMs: dateMs, log },
    registryOf: (upstream: string) => registries.of(upstream),
    cache: await JsonFolder.open(join(config.data, 'layers'), isLayerRecord),
    packer: pool,
    largeLayers: new LargeLayers(),
    scratch: () => ScratchFile.create(work),
    freeBytes: () => freeBytesOf(config.data),
  };
  const ended = metrics.counter('sepia_accelerator_conversions_total', 'Conversions by how they ended.', [
    'outcome',
  ]);
  const reach = new Reach({ whom: 'proxies', patienceMs: PATIENCE_MS });
  const worker = new Worker(
    {
      ...{ queue, holder: `${id}.${randomUUID()}`, log, reach },
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
  return { metrics, clock, encryption: dialling.encryption, proxies, queue, records, reach, worker };
}

/** Opens the port of the API and the admin port, then lets the worker and the scan run. */
async function serve(
  { config, cluster, clusterKey, id, log, stops }: Given,
  {
    metrics,
    clock,
    encryption,
    proxies,
    queue,
    records,
    reach,
    worker,
  }: Awaited<ReturnType<typeof openParts>>,
): Promise<{ readonly listener: HttpListener; readonly admin: HttpListener }> {
  const stopping = new AbortController();
  const app = apiApp({
    ...{ cluster, queue, clusterKey, selfId: id, log, metrics, clock },
    guard: apiGuard({ log, nowMs: steadyMs }, config.api),
    progressOf: (job) => worker.progressOf(job),
    oldSignatures: config['old-signatures'],
    stopping: stopping.signal,
  });
  const tls = listenerTls({ log, nowMs: steadyMs }, { key: 'listen', encryption });
  const listener = await HttpListener.start(app.callback(), config.listen, 'listen', { tls });
  stops.push('listener', () => listener.stop(STOP_GRACE_MS));
  const notReady = (): string | undefined =>
    stopping.signal.aborted ? 'stopping' : reach.lack(performance.now())?.why;
  const admin = await startAdmin({ log, metrics, app, notReady, clock }, config['admin-listen']);
  stops.push('admin', () => admin.stop(STOP_GRACE_MS));
  worker.start();
  stops.push('worker', () => worker.stop());
  const scanning = scanForever(
    { cluster, proxies, queue, records, log, chance, dateMs: clock.nowMs },
    config.scan,
    stopping.signal,
  );
  stops.push('scan', async () => {
    stopping.abort(new CodedError('DRAINING'));
    await scanning;
  });
  return { listener, admin };
}

function putInForce(config: AcceleratorConfig, log: Logger, worker: Worker): void {
  log.level = config.log.level;
  worker.adjust(config.workers);
}
