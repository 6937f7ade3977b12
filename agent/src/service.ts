import { randomInt } from 'node:crypto';
import { arch } from 'node:os';
import { join } from 'node:path';
import { openAudit } from '@sepia/base/audit';
import { MemberClock } from '@sepia/base/clock/member-clock';
import { readClusterKey } from '@sepia/base/config/load';
import type { Digest } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { logFailure } from '@sepia/base/failure';
import { StopStack, startAll } from '@sepia/base/lifecycle';
import { createLogger, type Logger } from '@sepia/base/log';
import { Metrics } from '@sepia/base/metrics';
import type { BlobName } from '@sepia/base/names/blob-name';
import { DOCKER_HUB_HOSTS, isDockerHub } from '@sepia/base/names/upstream-name';
import { type Lack, Reach } from '@sepia/base/reach';
import { AGENT_OF_NODE } from '@sepia/cluster/api/lazy-offers';
import { Cluster } from '@sepia/cluster/cluster';
import { loadClusterDocument } from '@sepia/cluster/document';
import { createRegistryApp } from '@sepia/face/registry-app';
import { startAdmin } from '@sepia/http/admin';
import { InternalClient } from '@sepia/http/client';
import { createGate } from '@sepia/http/gate';
import { HttpListener } from '@sepia/http/listener';
import { OPEN_ROUTES } from '@sepia/http/open-routes';
import { createRouter, routesOf } from '@sepia/http/router';
import { CallVerifier } from '@sepia/http/sign';
import { createDispatcher } from '@sepia/http/sockets';
import { BlobStore } from '@sepia/store/blob-store';
import { DataFolder } from '@sepia/store/data-folder';
import { diskFiles } from '@sepia/store/files/disk-files';
import type { FilePort } from '@sepia/store/files/file-port';
import type Koa from 'koa';
import { BlobTable } from './blobs/blob-table.ts';
import { Hints } from './blobs/core/hints.ts';
import { LinkProofs } from './blobs/core/link-proofs.ts';
import { Links } from './blobs/links.ts';
import { Seeds } from './blobs/seeds.ts';
import { soundness } from './blobs/soundness.ts';
import { AccessClient } from './cluster/access-client.ts';
import { MemberHealth } from './cluster/members.ts';
import { OriginClient } from './cluster/origin-client.ts';
import { ProxyClient } from './cluster/proxy-client.ts';
import { TrackerClient } from './cluster/tracker-client.ts';
import type { Wish } from './cluster/wish.ts';
import type { AgentConfig } from './config.ts';
import type { PieceSource } from './downloads/download.ts';
import { ClusterGuide } from './downloads/guide.ts';
import { createEngine, openSwarms } from './engine.ts';
import { entranceOf } from './entrance.ts';
import { agentHandlers } from './http/handlers.ts';
import { LazyImages } from './lazy/lazy-images.ts';
import { Offers } from './lazy/offers.ts';
import { lazyRoutes } from './lazy/routes.ts';
import { Manifests } from './manifests/manifests.ts';
import { TagMemory } from './manifests/tag-memory.ts';
import { CommandLog } from './node/commands/core/command-log.ts';
import { prefetch } from './node/commands/prefetch.ts';
import { purge } from './node/commands/purge.ts';
import { CommandRunner } from './node/commands/runner.ts';
import { LeaseBook } from './node/core/lease-book.ts';
import { Heartbeat } from './node/heartbeat.ts';
import { SourceGate } from './source/source-gate.ts';
import { UpstreamClients } from './source/upstream-clients.ts';

/** Trackers may be silent this long until `/readyz` says so, in ms. */
const PATIENCE_MS = 15_000;
const STOP_GRACE_MS = 5_000;

/** A running agent. */
export interface Agent {
  readonly id: string;
  /** Registry endpoint of each listener. */
  readonly urls: readonly string[];
  readonly url: string;
  readonly adminUrl: string;
  readonly peers: readonly string[];
  /** The log level of a new config, at once. */
  adjust(config: AgentConfig): void;
  stop(): Promise<void>;
}

/** What a caller may put in place of the process's own. */
export interface AgentGiven {
  readonly log?: Logger;
  /** File access of the blob store. */
  readonly files?: FilePort;
  /** Environment of the process: HTTP proxies before upstreams. Default: nothing. */
  readonly env?: Readonly<Record<string, string | undefined>>;
}

/** Builds and starts an agent. Paths in `config` are absolute. @throws {CodedError} `CONFIG_INVALID`, `START_FAILED`, `DISK_FORMAT` */
export async function startAgent(config: AgentConfig, given: AgentGiven = {}): Promise<Agent> {
  const cluster = new Cluster(loadClusterDocument(config['cluster-document']));
  const clusterKey = readClusterKey(config['cluster-key-file']);
  checkListeners(config, cluster);
  const stops = new StopStack();
  return await startAll(stops, async () => {
    const clock = new MemberClock();
    const { nowMs } = clock;
    const folderLog = given.log ?? createLogger('agent', config.id ?? 'new', config.log.level);
    const folder = await DataFolder.open(
      { log: folderLog },
      { dir: config.data, ...(config.id === undefined ? {} : { id: config.id }) },
    );
    stops.push('data folder', () => folder.close());
    const { id } = folder;
    const log = given.log ?? createLogger('agent', id, config.log.level);
    const metrics = new Metrics('agent', id);
    const bytes = metrics.counter('sepia_agent_bytes_total', 'Bytes by where they came from.', ['source']);
    for (const source of ['peer', 'origin', 'upstream', 'cache']) bytes.inc({ source }, 0);
    const bad = metrics.counter('sepia_swarm_pieces_bad_total', 'Pieces that did not match their hash.');

    const { cache } = config;
    const files = given.files ?? diskFiles;
    const store = await BlobStore.open(
      { files, dir: folder.dir, log, nowMs },
      {
        durable: false,
        bootId: folder.bootId,
        budgetBytes: cache.budget,
        highWatermark: cache.high,
        lowWatermark: cache.low,
      },
    );
    stops.push('store', () => store.close());
    store.reconcile().catch((error: unknown) => logFailure(log, error, 'cache was not counted'));
    const tags = await TagMemory.open(join(folder.dir, 'tags.json'), log);
    stops.push('tags', () => tags.stop());

    const dispatcher = createDispatcher();
    stops.push('sockets', () => dispatcher.destroy());
    const client = new InternalClient({
      dispatcher,
      clusterKey,
      memberId: id,
      clock,
      oldSignatures: config['old-signatures'],
    });
    const health = new MemberHealth(nowMs);
    const trackers = new TrackerClient({ cluster, client, health });
    const origins = new OriginClient({ cluster, client, health });
    const upstreams = new UpstreamClients({ cluster, log, nowMs, env: given.env ?? {} });
    stops.push('upstreams', () => upstreams.stop());

    const engine = createEngine({ cluster, clusterKey, log }, { id, zone: config.zone });
    stops.push('swarm', () => engine.stop());
    const listening: string[] = [];
    for (const address of config['peer-listen']) {
      const bound = await engine.listen(address);
      listening.push(`${bound.address.includes(':') ? `[${bound.address}]` : bound.address}:${bound.port}`);
    }
    const addresses = (): readonly string[] => config.advertise ?? listening;

    const hints = new Hints();
    const proofs = new LinkProofs((upstream) => cluster.takesDeletes(upstream));
    const book = new LeaseBook();
    const gate = new SourceGate(config['back-to-source']['max-parallel']);
    const seeds = new Seeds({
      store,
      engine,
      book,
      trackerIds: (digest) => trackers.trackerIds(digest),
      log,
    });
    stops.push('seeds', () => seeds.stop());
    store.onEvicted((digest) => seeds.drop(digest));
    const links = new Links({ proofs, hints, origins, store, seeds, log, nowMs });
    const { deadlines } = config;
    const options = {
      backToSource: { mode: config['back-to-source'].mode, afterMs: config['back-to-source'].after },
      patience: { progressMs: deadlines['download-progress'], stallMs: deadlines['body-stall'] },
    };
    const upstreamClient = (name: string) => upstreams.of(name);
    const guideDeps = { trackers, origins, nodeId: id, addresses, zone: config.zone };
    const guideOf = (name: BlobName, wish?: Wish) => new ClusterGuide(guideDeps, name, wish);
    const onBytes = (source: PieceSource | 'cache', count: number): void => bytes.inc({ source }, count);
    const { cached, scrubber } = soundness(
      { store, files, dir: folder.dir, seeds, guideOf, onBytes, metrics, stops, log, nowMs },
      { rateBytesPerSec: config.scrub.rate, everyMs: config.scrub.every },
    );
    let poke = (_digest: Digest): void => undefined;
    const blobs = new BlobTable(
      {
        cluster,
        store,
        engine,
        origins,
        hints,
        upstreamClient,
        gate,
        log,
        nowMs,
        seeds,
        nodeId: id,
        guideOf,
        onBytes,
        cached,
        onBadPiece: () => bad.inc(),
        onStart: (digest) => poke(digest),
      },
      options,
    );
    stops.push('downloads', () => blobs.stop());
    const manifests = new Manifests(
      {
        cluster,
        client,
        origins,
        health,
        store,
        hints,
        tags,
        proofs,
        gate,
        upstreamClient,
        nodeId: id,
        log,
        nowMs,
      },
      options,
    );

    const commandLog = new CommandLog();
    const reach = new Reach({ whom: 'trackers', patienceMs: PATIENCE_MS });
    const heartbeat: Heartbeat = new Heartbeat({
      trackers,
      book,
      commandLog,
      commands: () => commands,
      nodeId: id,
      zone: config.zone,
      addresses,
      log,
      swarms: () => blobs.figures(),
      trackerIdsOf: (digest) => trackers.trackerIds(digest as Digest),
      chance: () => randomInt(2 ** 32) / 2 ** 32,
      onAnswer: () => gate.note(true, nowMs()),
      reach,
      onStrangers: (told) => openSwarms(engine, told),
      onRevoked: async (revoked) => await links.drop(revoked),
    });
    const architecture = arch() === 'x64' ? 'amd64' : arch();
    const commands = new CommandRunner({
      commandLog,
      log,
      prefetch: (detail, onProgress, signal) =>
        prefetch({ manifests, blobs, store, architecture }, detail, onProgress, signal),
      purge: (detail) => purge({ store, seeds, hints, tags, log }, detail),
      onEnd: () => heartbeat.pokeAll(),
    });
    stops.push('commands', () => commands.stop());
    heartbeat.start();
    poke = (digest) => heartbeat.poke(digest);
    stops.push('heartbeat', () => heartbeat.stop());

    const audit = openAudit({ service: 'agent', id, log }, config['audit-log']);
    stops.push('audit log', () => audit.close());
    const asking = new AccessClient(
      { cluster, client, health, gate, upstreamClient, nodeId: id, nowMs },
      options,
    );
    const doorOf = entranceOf({ cluster, clusterKey, asking, audit, nowMs });
    const proxyUrls = cluster.members('proxy').map((proxy) => proxy.urls[0]!);
    const lazyOffers = new Offers({ nowMs });
    const lazy = new LazyImages(
      {
        cluster,
        clusterKey,
        proxies: new ProxyClient({ cluster, client, health, nodeId: id }),
        offers: lazyOffers,
        log,
        nowMs,
      },
      { waitMs: config['lazy-wait'] },
    );
    const forNode = snapshotterSide(config, log);
    const handlers = agentHandlers({
      lazy,
      blobs,
      manifests,
      links,
      onCacheBytes: (count) => bytes.inc({ source: 'cache' }, count),
      firstPieceMs: deadlines['first-piece'],
      stallMs: deadlines['body-stall'],
    });
    const apps: Koa[] = [];
    const listeners: HttpListener[] = [];
    for (const [
      index,
      {
        listen,
        'default-upstream': defaultUpstream = cluster.defaultUpstream,
        'public-url': publicUrl,
        'trusted-proxies': trustedProxies,
      },
    ] of config.listeners.entries()) {
      const own = new Set(listeners.map((one) => one.hostPort));
      const upstreams = () => withOwnHosts(cluster, [listen, ...own]);
      const app = createRegistryApp(
        {
          log,
          gate: createGate({
            open: OPEN_ROUTES.agent,
            hosts: () => ownNames(upstreams(), publicUrl),
            ...forNode,
          }),
          onRequest: metrics.onRequest,
          handlers,
          other: lazyRouter(lazyOffers, lazy),
          upstreams,
          door: doorOf(upstreams, { defaultUpstream, publicUrl }),
        },
        {
          defaultUpstream,
          readOnly: `an agent takes no writes; push to a proxy: ${proxyUrls.join(' or ')}`,
          trustedProxies,
        },
      );
      apps.push(app);
      const listener = await HttpListener.start(app.callback(), listen, `listeners.${index}.listen`);
      listeners.push(listener);
      stops.push('listener', () => listener.stop(STOP_GRACE_MS));
    }
    let stopping = false;
    const admin = await startAdmin(
      {
        log,
        metrics,
        app: apps[0]!,
        notReady: () => (stopping ? 'stopping' : whyOf(reach.lack(performance.now()), 'refused')),
        clock,
        warnings: () => [
          ...[whyOf(reach.lack(performance.now()), 'silent')].filter((one) => one !== undefined),
          ...scrubber.warnings,
        ],
        debug: { swarms: () => blobs.figures() },
      },
      config['admin-listen'],
    );
    stops.push('admin', () => admin.stop(STOP_GRACE_MS));
    stops.push('readiness', () => {
      stopping = true;
    });
    scrubber.start();
    log.info({ listen: listeners.map((one) => one.hostPort), peers: listening }, 'agent is ready');
    return {
      id,
      urls: listeners.map((one) => one.url),
      url: listeners[0]!.url,
      adminUrl: admin.url,
      peers: listening,
      adjust: (next) => {
        log.level = next.log.level;
      },
      stop: () => stops.stop(),
    };
  });
}

/** The default upstream also answers to the agent's own host:port (design, "Names"). */
function withOwnHosts(cluster: Cluster, own: readonly string[]) {
  return cluster.upstreams.map((upstream, index) =>
    index === 0 ? { ...upstream, hosts: [...upstream.hosts, ...own] } : upstream,
  );
}

/** Names by which this agent is asked: those of its upstreams, and its own public one. */
function* ownNames(upstreams: Cluster['upstreams'], publicUrl: string | undefined): Generator<string> {
  for (const url of [publicUrl, ...upstreams.map((one) => one.url)])
    if (url !== undefined) yield new URL(url).host;
  for (const { hosts } of upstreams) yield* hosts;
  if (upstreams.some(isDockerHub)) yield* DOCKER_HUB_HOSTS;
}

function checkListeners(config: AgentConfig, cluster: Cluster): void {
  for (const [index, { 'default-upstream': name }] of config.listeners.entries()) {
    if (name === undefined || cluster.upstreams.some((upstream) => upstream.name === name)) continue;
    throw new CodedError('CONFIG_INVALID', {
      message: `listeners.${index}.default-upstream: no upstream "${name}" in the cluster document`,
    });
  }
}

/** Who may call what is for the snapshotter: whoever has the node's secret. Without a secret nobody. */
function snapshotterSide(config: AgentConfig, log: Logger): { verifier?: CallVerifier } {
  const file = config['node-secret-file'];
  if (file === undefined) return {};
  const clusterKey = readClusterKey(file, 'node-secret-file');
  return { verifier: new CallVerifier({ clusterKey, selfId: AGENT_OF_NODE, log }) };
}

function lazyRouter(offers: Offers, images: LazyImages): Koa.Middleware {
  const router = createRouter();
  lazyRoutes(router, offers, images);
  return routesOf(router);
}

function whyOf(lack: Lack | undefined, kind: Lack['kind']): string | undefined {
  return lack?.kind === kind ? lack.why : undefined;
}
