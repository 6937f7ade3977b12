import { randomUUID } from 'node:crypto';
import { Passes } from '@sepia/base/async/passes';
import { chance } from '@sepia/base/clock/chance';
import { MemberClock } from '@sepia/base/clock/member-clock';
import { CodedError } from '@sepia/base/errors';
import { StopStack, startAll } from '@sepia/base/lifecycle';
import { createLogger, type Logger } from '@sepia/base/log';
import { withinMemory } from '@sepia/base/memory/process-memory';
import { Metrics } from '@sepia/base/metrics';
import { Reach, steadyMs } from '@sepia/base/reach';
import { H_CLUSTER } from '@sepia/cluster/api/headers';
import { digestHash } from '@sepia/cluster/api/set-hash';
import type { Cluster } from '@sepia/cluster/cluster';
import { diallingOf } from '@sepia/cluster/member-config';
import { followingClient } from '@sepia/cluster/ring-follower';
import { startAdmin } from '@sepia/http/admin';
import { createApp } from '@sepia/http/app';
import type { InternalClient } from '@sepia/http/client';
import { HttpListener } from '@sepia/http/listener';
import { createMemberGate } from '@sepia/http/member-gate';
import { createMemberSockets } from '@sepia/http/sockets';
import { listenerTls } from '@sepia/http/tls/listener-tls';
import { DataFolder } from '@sepia/store/data-folder';
import type Koa from 'koa';
import { checkTracker } from './check.ts';
import { CommandBook } from './commands/core/command-book.ts';
import { Revocations } from './commands/core/revocations.ts';
import type { TrackerConfig } from './config.ts';
import { EXPIRE_EVERY_MS, LOOK_MS, PATIENCE_MS, STOP_GRACE_MS } from './deadlines.ts';
import { announceRoutes } from './http/announce.ts';
import { peerEntry } from './http/join-body.ts';
import { memberRoutes } from './http/routes.ts';
import { MetainfoKeeper } from './metainfo/metainfo-keeper.ts';
import { Origins } from './metainfo/origins.ts';
import { StrangerTable } from './strangers/core/stranger-table.ts';
import { PeerPlaces } from './strangers/peer-places.ts';
import { StrangerDesk } from './strangers/stranger-desk.ts';
import { TorrentOrigins } from './strangers/torrent-origins.ts';
import { LiveFigures } from './swarms/core/live-figures.ts';
import { SwarmTable } from './swarms/core/swarm-table.ts';

/** A running tracker. */
export interface Tracker {
  readonly url: string;
  readonly adminUrl: string;
  /** The log level of a new config, at once. */
  adjust(config: TrackerConfig): void;
  stop(): Promise<void>;
}

/** The parts that hold state, one for each folder. */
interface Rooms {
  readonly table: SwarmTable;
  readonly keeper: MetainfoKeeper;
  readonly desk: StrangerDesk;
  readonly figures: LiveFigures;
  readonly commands: CommandBook;
  readonly nowMs: () => number;
}

/** What all parts of one tracker are built from. */
interface Ground {
  readonly config: TrackerConfig;
  readonly cluster: Cluster;
  readonly clusterKey: Uint8Array;
  readonly id: string;
  readonly log: Logger;
  readonly metrics: Metrics;
  readonly clock: MemberClock;
  readonly stops: StopStack;
  /** Aborted when it stops. */
  readonly stopping: AbortController;
}

/** Builds and starts a tracker. Paths in `config` are absolute. @throws {CodedError} `CONFIG_INVALID`, `START_FAILED` */
export async function startTracker(
  config: TrackerConfig,
  deps: { readonly log?: Logger } = {},
): Promise<Tracker> {
  const { cluster, clusterKey, id } = checkTracker(config);
  const log = deps.log ?? createLogger('tracker', id, config.log.level);
  const metrics = new Metrics('tracker', id);
  const stops = new StopStack();
  const stopping = new AbortController();
  const clock = new MemberClock();
  const ground = { config, cluster, clusterKey, id, log, metrics, clock, stops, stopping };
  return await startAll(stops, async () => await build(ground));
}

async function build(ground: Ground): Promise<Tracker> {
  const { config, cluster, clusterKey, id, log, metrics, clock, stops, stopping } = ground;
  const folder = await DataFolder.open({ log }, { dir: config.data, id, role: 'tracker' });
  stops.push('data folder', () => folder.close());
  const dialling = diallingOf(cluster, clusterKey, log);
  const { sockets, destroy } = createMemberSockets(dialling);
  stops.push('sockets', destroy);
  const client = followingClient(cluster, log, {
    ...sockets,
    clusterKey,
    memberId: id,
    clock,
    oldSignatures: config['old-signatures'],
  });
  const reach = new Reach({ whom: 'origins', patienceMs: PATIENCE_MS });
  const app = createTrackerApp(ground, createRooms(ground, client, reach));
  const tls = listenerTls({ log, nowMs: steadyMs }, { key: 'listen', encryption: dialling.encryption });
  const listener = await HttpListener.start(app.callback(), config.listen, 'listen', { tls });
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
  stops.push('waits', () => stopping.abort(new CodedError('DRAINING')));
  log.info(
    { listen: listener.hostPort, admin: admin.hostPort, clusterVersion: cluster.version },
    'tracker is ready',
  );
  return {
    url: listener.url,
    adminUrl: admin.url,
    adjust: (next) => {
      log.level = next.log.level;
    },
    stop: () => stops.stop(),
  };
}

/** The rooms: who is in which swarm, metainfo, strangers, commands; what is over expires. */
function createRooms(ground: Ground, client: InternalClient, reach: Reach): Rooms {
  const { config, cluster, log, metrics, stops, stopping } = ground;
  const nowMs = steadyMs;
  const table = new SwarmTable(chance, digestHash);
  const origins = new Origins({ cluster, client });
  const look = new Passes({
    name: 'origins',
    pass: async (signal) => await origins.look(reach, signal),
    firstMs: LOOK_MS,
    rest: () => LOOK_MS,
    log,
    failed: 'origins were not looked at',
  });
  look.start();
  stops.push('look', async () => await look.stop());
  const keeper = new MetainfoKeeper(
    { cluster, origins, log, nowMs, holders: (digest) => table.holders(digest, 50).map(peerEntry) },
    { budgetBytes: withinMemory(config['metainfo-cache']) },
  );
  stops.push('metainfo', () => keeper.stop());
  const strangers = new StrangerTable(chance);
  const desk = new StrangerDesk({
    origins: new TorrentOrigins({ cluster, client, stopping: stopping.signal }),
    table,
    strangers,
    places: new PeerPlaces(nowMs),
    originAddresses: (originId) => cluster.member(originId).peers,
    log,
    nowMs,
    intervalMs: cluster.document.policies['stranger-interval'],
  });
  const figures = new LiveFigures();
  const commands = new CommandBook();
  const expiry = setInterval(() => {
    for (const gone of table.expire(nowMs())) figures.forget(gone);
    commands.expire(nowMs());
    desk.tick();
  }, EXPIRE_EVERY_MS);
  stops.push('expiry', () => clearInterval(expiry));
  metrics.gauge('sepia_tracker_nodes', 'Nodes with a lease.', () => table.nodeCount);
  metrics.gauge('sepia_tracker_commands', 'Commands to nodes that are alive.', () => commands.size);
  return { table, keeper, desk, figures, commands, nowMs };
}

/** What answers: members behind the gate, strangers at the routes that are open to them. */
function createTrackerApp(ground: Ground, rooms: Rooms): Koa {
  const { config, cluster, clusterKey, id, log, metrics, clock, stopping } = ground;
  const oldSignatures = config['old-signatures'];
  const gate = createMemberGate({
    role: 'tracker',
    clusterKey,
    selfId: id,
    log,
    metrics,
    clock,
    oldSignatures,
  });
  const app = createApp({ log, gate, onRequest: metrics.onRequest });
  app.use(announceRoutes({ cluster, desk: rooms.desk, stopping: stopping.signal }));
  app.use(async (ctx, next) => {
    ctx.set(H_CLUSTER, String(cluster.version));
    await next();
  });
  app.use(
    memberRoutes({
      ...rooms,
      id,
      cluster,
      revocations: new Revocations(randomUUID()),
      heartbeatMs: config.heartbeat,
      startedMs: rooms.nowMs(),
      stopping: stopping.signal,
    }),
  );
  return app;
}
