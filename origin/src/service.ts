import { Cluster } from '@sepia/shared/cluster/cluster';
import { loadClusterDocument } from '@sepia/shared/cluster/document';
import { NodeCommands } from '@sepia/shared/cluster/node-commands';
import { readClusterKey } from '@sepia/shared/config/load';
import { CodedError } from '@sepia/shared/errors';
import { startAdmin } from '@sepia/shared/http/admin';
import { createApp } from '@sepia/shared/http/app';
import { InternalClient } from '@sepia/shared/http/client';
import { createGate } from '@sepia/shared/http/gate';
import { HttpListener } from '@sepia/shared/http/listener';
import { OPEN_ROUTES } from '@sepia/shared/http/open-routes';
import { createRouter, routesOf } from '@sepia/shared/http/router';
import { CallVerifier } from '@sepia/shared/http/sign';
import { createDispatcher } from '@sepia/shared/http/sockets';
import { StopStack, startAll } from '@sepia/shared/lifecycle';
import { createLogger, type Logger } from '@sepia/shared/log';
import { MAX_BLOB_BYTES } from '@sepia/shared/metainfo/metainfo';
import { Metrics } from '@sepia/shared/metrics';
import { peerIdOf } from '@sepia/shared/names/peer-id';
import { RecordStore } from '@sepia/shared/records/record-store';
import { BlobStore } from '@sepia/shared/store/blob-store';
import { DataFolder } from '@sepia/shared/store/data-folder';
import { diskFiles } from '@sepia/shared/store/disk-files';
import { rotCounts } from '@sepia/shared/store/rot-metrics';
import { SwarmEngine } from '@sepia/shared/swarm/engine';
import { H_CLUSTER } from '@sepia/shared/wire/headers';
import type { OriginConfig } from './config.ts';
import { Health } from './core/health.ts';
import { accessRoutes } from './http/access-routes.ts';
import { backupRoutes } from './http/backup-routes.ts';
import { blobRoutes } from './http/blob-routes.ts';
import { discoveryRoutes } from './http/discovery-routes.ts';
import { recordRoutes } from './http/record-routes.ts';
import { removalRoutes } from './http/removal-routes.ts';
import { replicationRoutes } from './http/replication-routes.ts';
import { setRoutes } from './http/set-routes.ts';
import { tagRoutes } from './http/tag-routes.ts';
import { uploadRoutes } from './http/upload-routes.ts';
import { Access } from './net/access.ts';
import { Blobs } from './net/blobs.ts';
import { Catalog } from './net/catalog.ts';
import { Deletes } from './net/deletes.ts';
import type { BlobName } from './net/fetch-parts.ts';
import { Fetches } from './net/fetches.ts';
import { originGauges } from './net/gauges.ts';
import { Invalidation } from './net/invalidation.ts';
import { LinkProofs } from './net/link-proofs.ts';
import { Links } from './net/links.ts';
import { Manifests } from './net/manifests.ts';
import { Members } from './net/members.ts';
import { namesToFetchWith } from './net/names-to-fetch-with.ts';
import { PublicRepositories } from './net/public-repositories.ts';
import { PullTimes } from './net/pull-times.ts';
import { Purges } from './net/purges.ts';
import { Quotas } from './net/quotas.ts';
import { Recheck } from './net/recheck.ts';
import { recordSets } from './net/record-sets.ts';
import { Referrers } from './net/referrers.ts';
import { Removals } from './net/removals.ts';
import { Repair } from './net/repair.ts';
import { createReplication } from './net/replication/start.ts';
import { Replicator } from './net/replicator.ts';
import { Sessions } from './net/sessions.ts';
import { originStatus } from './net/status.ts';
import { Swarms } from './net/swarms.ts';
import { TagIndex } from './net/tag-index.ts';
import { Tags } from './net/tags.ts';
import { Uploads } from './net/uploads.ts';
import { Upstreams } from './net/upstreams.ts';
import { WholeBlobs } from './net/whole-blobs.ts';
import { DiskRoom, type FreeBytes } from './store/disk-room.ts';
import { Hints } from './store/hints.ts';

const CONNECT_TIMEOUT_MS = 1_000;

/** A running origin. */
export interface Origin {
  readonly url: string;
  readonly adminUrl: string;
  /** Addresses of the swarm ports. */
  readonly peerAddresses: readonly string[];
  /** Drains, then stops all parts. Idempotent. */
  stop(): Promise<void>;
}

export interface OriginDeps {
  readonly log?: Logger;
  /** Free bytes of the data disk; default: the system's. */
  readonly freeBytes?: FreeBytes;
}

/** Builds and starts an origin. Paths in `config` are absolute. @throws {CodedError} `CONFIG_INVALID`, `START_FAILED` */
export async function startOrigin(config: OriginConfig, deps: OriginDeps = {}): Promise<Origin> {
  const cluster = new Cluster(loadClusterDocument(config['cluster-document']));
  const clusterKey = readClusterKey(config['cluster-key-file']);
  const selfId = checkedId(config, cluster);
  const { freeBytes } = deps;
  const log = deps.log ?? createLogger('origin', selfId, config.log.level);
  const stops = new StopStack();
  return await startAll(
    stops,
    async () => await build({ config, cluster, clusterKey, selfId, log, stops, freeBytes }),
  );
}

interface BuildParts {
  readonly config: OriginConfig;
  readonly cluster: Cluster;
  readonly clusterKey: Uint8Array;
  readonly selfId: string;
  readonly log: Logger;
  readonly stops: StopStack;
  readonly freeBytes: FreeBytes | undefined;
}

async function build(parts: BuildParts): Promise<Origin> {
  const { config, cluster, clusterKey, selfId, log, stops, freeBytes } = parts;
  const { deadlines } = config;
  const nowMs = (): number => Date.now();
  const startedMs = nowMs();
  const stopping = new AbortController();
  const metrics = new Metrics('origin', selfId);
  const upstreamBytes = metrics.counter(
    'sepia_origin_upstream_bytes_total',
    'Bytes of blobs that came from an upstream.',
    ['upstream'],
  );
  const servedBytes = metrics.counter(
    'sepia_origin_served_bytes_total',
    'Bytes of blobs answered over HTTP.',
  );

  const folder = await DataFolder.open({ log }, { dir: config.data, id: selfId });
  stops.push('data folder', async () => await folder.close());
  const records = new RecordStore({ db: folder.db });
  stops.push('records', async () => await records.close());
  const room = new DiskRoom({ selfId, dir: folder.dir, log, nowMs, freeBytes });
  stops.push('disk room', () => room.stop());
  await room.start();
  const store = await BlobStore.open(
    {
      files: room.guard(diskFiles),
      dir: folder.dir,
      log,
      nowMs,
      mayEvict: (_digest, attrs) => attrs.class === 'cached',
    },
    {
      durable: true,
      budgetBytes: config.cache.budget,
      highWatermark: config.cache.high,
      lowWatermark: config.cache.low,
      bootId: folder.bootId,
      // On a full disk, what a former process left half is room.
      ...(room.isFull ? { partialTtlMs: 0 } : {}),
    },
  );
  stops.push('blob store', async () => await store.close());

  const sessions = new Sessions({ nowMs });
  const upstreams = new Upstreams(
    {
      cluster,
      log,
      nowMs,
      credentials: config.credentials,
      names: (fetching, repository, signal) =>
        namesToFetchWith({ members, sessions, isPrivate: access.isPrivate }, fetching, repository, signal),
    },
    { progressMs: deadlines['fetch-progress'] },
  );
  stops.push('upstreams', async () => await upstreams.close());
  const dispatcher = createDispatcher({ connectTimeoutMs: CONNECT_TIMEOUT_MS });
  stops.push('sockets', async () => await dispatcher.destroy());
  const health = new Health();
  const client = new InternalClient({ dispatcher, clusterKey, memberId: selfId, nowMs });
  const members: Members = new Members({ cluster, selfId, client, health, nowMs });
  const engine = new SwarmEngine(
    { clusterKey, peerId: peerIdOf(selfId), log },
    { origin: true, ...(config.zone === undefined ? {} : { zone: config.zone }) },
  );
  stops.push('swarm engine', async () => await engine.stop());
  const peerAddresses: string[] = [];
  for (const address of config['peer-listen']) {
    const bound = await engine.listen(address);
    peerAddresses.push(`${bound.address.includes(':') ? `[${bound.address}]` : bound.address}:${bound.port}`);
  }

  const swarms = new Swarms({ engine, store, log, nowMs }, { idleMs: deadlines['swarm-idle'] });
  stops.push('swarms', async () => await swarms.stop());
  store.onEvicted((digest) => swarms.forget(digest));
  const fetches = new Fetches(
    {
      store,
      upstreams,
      room,
      log,
      nowMs,
      events: swarms,
      onUpstreamBytes: (upstream, bytes) => upstreamBytes.inc({ upstream }, bytes),
    },
    { progressMs: deadlines['fetch-progress'] },
  );
  stops.push('fetches', async () => fetches.stop());
  const quotas = new Quotas({
    members,
    records,
    upstreams,
    log,
    nowMs,
    isLinked: async (name) => (await links.find(name)) !== undefined,
  });
  const sets = recordSets({ members, records, quotas, nowMs });
  const invalidation = new Invalidation({ cluster, client, selfId, log, nowMs });
  stops.push('revocations', () => invalidation.stop());
  const proofs = new LinkProofs({ store, upstreams });
  const onConfirmed = (name: BlobName): void => proofs.note(name);
  const links: Links = new Links({ set: sets.links, upstreams, nowMs, onConfirmed });
  invalidation.onRevoked((revoked) => {
    for (const name of revoked) proofs.forget(name);
    links.revoke(revoked);
  });
  const hints = new Hints({ records, nowMs });
  const replicator = new Replicator(
    { members, store, hints, log, nowMs },
    { stragglerMs: deadlines['copy-straggler'] },
  );
  stops.push('replicator', async () => await replicator.stop());
  const rot = rotCounts(metrics, 'origin');
  const repair = new Repair({ members, store, upstreams, log, nowMs, ...rot });
  stops.push('repair', () => repair.stop());
  const blobs = new Blobs({ members, store, links, proofs, fetches, swarms, upstreams, repair });
  const tags = new Tags({ members, records, nowMs });
  const recheck = new Recheck({ members, upstreams, log, nowMs });
  const tagIndex = new TagIndex({ members, records });
  const referrers = new Referrers({ set: sets.referrers, upstreams, log });
  const catalog = new Catalog({ cluster, members, records });
  const { replication, intake, jobs } = createReplication({
    cluster,
    members,
    records,
    blobs,
    store,
    tags,
    tagIndex,
    referrers,
    manifests: () => manifests,
    credentials: config.credentials,
    metrics,
    log,
    nowMs,
  });
  stops.push('replication', async () => await replication.stop());
  const manifests: Manifests = new Manifests({
    members,
    store,
    blobs,
    links,
    proofs,
    quotas,
    tags,
    referrers,
    replicator,
    replication: intake,
    upstreams,
    recheck,
    repair,
    log,
    nowMs,
  });
  const deletes = new Deletes({
    links,
    tags,
    tagIndex,
    manifests,
    referrers,
    replication: intake,
    invalidation,
    upstreams,
    log,
  });
  const whole = new WholeBlobs({ members, store, fetches, blobs, replicator });
  const purges = new Purges({ members, store, links, invalidation, tagIndex, manifests, upstreams, log });
  const removals = new Removals({
    members,
    store,
    links,
    linkSet: sets.links,
    tags,
    tagIndex,
    manifests,
    deletes,
    replication: intake,
    invalidation,
    upstreams,
    commands: new NodeCommands({ cluster, client }),
    log,
  });
  const pullTimes = new PullTimes({ upstreams, log, nowMs });
  stops.push('pull times', async () => await pullTimes.stop());
  const publics = new PublicRepositories({ set: sets.public, log, nowMs });
  const access: Access = new Access({ upstreams, manifests, tags, links, sessions, publics, nowMs });
  const uploads = new Uploads(
    { selfId, store, links, quotas, replicator, upstreams, room, log, nowMs },
    {
      maxOpen: config['max-uploads'],
      idleMs: deadlines['upload-idle'],
      maxBlobBytes: Math.min(config['max-blob'], MAX_BLOB_BYTES),
    },
  );
  stops.push('uploads', async () => await uploads.stop());

  originGauges(metrics, { fetches, uploads, swarms, store, room, health, nowMs });

  const status = async (): Promise<unknown> =>
    await originStatus({
      selfId,
      cluster,
      store,
      fetches,
      swarms,
      uploads,
      replicator,
      health,
      room,
      nowMs,
      startedMs,
      peerAddresses,
    });
  const router = createRouter('/v1');
  blobRoutes(router, {
    blobs,
    whole,
    links,
    uploads,
    replicator,
    members,
    repair,
    stallMs: deadlines['body-stall'],
    stopping: stopping.signal,
    onBytes: (bytes) => servedBytes.inc(bytes),
  });
  uploadRoutes(router, { uploads, links, quotas, upstreams, room, stopping: stopping.signal });
  replicationRoutes(router, { replication, intake, jobs });
  removalRoutes(router, { removals });
  backupRoutes(router, { records, tags });
  tagRoutes(router, { tags, manifests, upstreams });
  setRoutes(router, { sets, invalidation });
  recordRoutes(router, { cluster, records, quotas, manifests, purges, pullTimes, status });
  discoveryRoutes(router, { catalog, deletes, referrers, tagIndex, upstreams });
  accessRoutes(router, { access, sessions });

  const gate = createGate({ open: OPEN_ROUTES.origin, verifier: new CallVerifier(clusterKey), nowMs });
  const app = createApp({ log, gate, onRequest: metrics.onRequest });
  app.use(async (ctx, next) => {
    ctx.set(H_CLUSTER, String(cluster.version));
    await next();
  });
  app.use(routesOf(router));
  const listener = await HttpListener.start(app.callback(), config.listen, 'listen');
  stops.push('listener', async () => await listener.stop(deadlines.drain));
  const notReady = (): string | undefined => (stopping.signal.aborted ? 'stopping' : undefined);
  const admin = await startAdmin(
    { log, metrics, app, notReady, debug: { suspects: () => health.suspects(nowMs()) } },
    config['admin-listen'],
  );
  stops.push('admin', async () => await admin.stop(deadlines.drain));
  stops.push('waits', () => stopping.abort(new CodedError('DRAINING')));
  replicator.start();
  pullTimes.start();
  replication.start();
  void store
    .reconcile()
    .catch((error: unknown) => log.error({ err: error }, 'blob store was not reconciled'));
  log.info(
    {
      listen: listener.hostPort,
      admin: admin.hostPort,
      peers: peerAddresses,
      clusterVersion: cluster.version,
    },
    'origin is ready',
  );
  return { url: listener.url, adminUrl: admin.url, peerAddresses, stop: async () => await stops.stop() };
}

/** The configured id, if the cluster document has it as an origin. */
function checkedId(config: OriginConfig, cluster: Cluster): string {
  const { id } = config;
  if (id === undefined)
    throw new CodedError('CONFIG_INVALID', {
      message: 'id: is missing; an origin needs the id that the cluster document gives it',
    });
  const member = cluster.findMember(id);
  if (member === undefined)
    throw new CodedError('CONFIG_INVALID', {
      message: `id: "${id}" is not in ${config['cluster-document']}; add it as a member with role origin`,
    });
  if (member.role !== 'origin')
    throw new CodedError('CONFIG_INVALID', {
      message: `id: "${id}" has role ${member.role} in ${config['cluster-document']}, not origin`,
    });
  return id;
}
