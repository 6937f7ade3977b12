import { logFailure } from '@sepia/base/failure';
import { StopStack, startAll } from '@sepia/base/lifecycle';
import { createLogger, type Logger } from '@sepia/base/log';
import type { FreeBytes } from '@sepia/store/disk-room';
import { checkOrigin } from './check.ts';
import { type OriginConfig, uploadOptions } from './config.ts';
import { createContent, createNames } from './content.ts';
import { type OriginParts, openDoors } from './doors.ts';
import { type OriginGiven, openGround } from './ground.ts';
import { reachOut } from './outside.ts';
import { createKeeping, createPushes } from './pushes.ts';

/** A running origin. */
export interface Origin {
  readonly url: string;
  readonly adminUrl: string;
  /** Addresses of the swarm ports. */
  readonly peerAddresses: readonly string[];
  /** Resolves when what this origin says of records counts: the other origins confirmed it or handed over. */
  whenSettled(): Promise<void>;
  /** Log level and limits of a new config, at once; see {@link RELOADED}. */
  adjust(config: OriginConfig): void;
  /** Drains, then stops all parts. Idempotent. */
  stop(): Promise<void>;
}

export interface OriginDeps {
  readonly log?: Logger;
  /** Free bytes of the data disk; default: the system's. */
  readonly freeBytes?: FreeBytes;
  /** Of the process: HTTP proxies before upstreams, and where credential helpers are. Default: nothing. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** The operator's word that what other origins do not hand over is lost: it counts with what is here. */
  readonly acceptLoss?: boolean;
}

/** Builds and starts an origin. Paths in `config` are absolute. @throws {CodedError} `CONFIG_INVALID`, `START_FAILED` */
export async function startOrigin(config: OriginConfig, deps: OriginDeps = {}): Promise<Origin> {
  const { freeBytes, env = {}, acceptLoss = false } = deps;
  const { cluster, clusterKey, id: selfId } = await checkOrigin(config, env);
  const log = deps.log ?? createLogger('origin', selfId, config.log.level);
  const stops = new StopStack();
  const given = { config, cluster, clusterKey, selfId, log, stops, freeBytes, env, acceptLoss };
  return await startAll(stops, async () => await build(given));
}

async function build(given: OriginGiven): Promise<Origin> {
  const { cluster, log, stops } = given;
  const ground = await openGround(given);
  const outside = await reachOut(ground);
  const names = createNames(ground, outside);
  const content = createContent(ground, outside, names);
  const pushes = await createPushes(ground, outside, names, content);
  const keeping = createKeeping(ground, outside, names, content, pushes);
  const parts = { ...ground, ...outside, ...names, ...content, ...pushes, ...keeping };
  const { listener, admin } = await openDoors(parts);
  run(parts);
  const { peerAddresses, recordEngine, uploads } = parts;
  const facts = { listen: listener.hostPort, admin: admin.hostPort, peers: peerAddresses };
  log.info({ ...facts, clusterVersion: cluster.version }, 'origin is ready');
  return {
    url: listener.url,
    adminUrl: admin.url,
    peerAddresses,
    whenSettled: async () => await recordEngine.whenCounts(),
    adjust: (next) => {
      log.level = next.log.level;
      uploads.adjust(uploadOptions(next));
    },
    stop: async () => await stops.stop(),
  };
}

/** Starts all that works by itself. */
function run(parts: OriginParts): void {
  const { recovery, ring, scrubber, replicator, writeBehind, pullTimes, replication, watch, gc, tombstones } =
    parts;
  recovery.start();
  ring.start();
  scrubber.start();
  replicator.start();
  writeBehind.start();
  pullTimes.start();
  replication.start();
  watch.start();
  gc.schedule.start();
  tombstones.start();
  const { store, given } = parts;
  void store
    .reconcile()
    .catch((error: unknown) => logFailure(given.log, error, 'blob store was not reconciled', {}, 'error'));
}
