import { MemberClock } from '@sepia/base/clock/member-clock';
import { readClusterKey } from '@sepia/base/config/load';
import type { Digest } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { logFailure } from '@sepia/base/failure';
import { StopStack, startAll } from '@sepia/base/lifecycle';
import { createLogger, type Logger } from '@sepia/base/log';
import { Metrics } from '@sepia/base/metrics';
import { steadyMs } from '@sepia/base/reach';
import { Cluster } from '@sepia/cluster/cluster';
import { loadClusterDocument } from '@sepia/cluster/load-document';
import { NodeCommands } from '@sepia/cluster/node-commands';
import { startAdmin } from '@sepia/http/admin';
import { InternalClient } from '@sepia/http/client';
import { HttpListener } from '@sepia/http/listener';
import { createDispatcher } from '@sepia/http/sockets';
import { ownerName } from '@sepia/records/table/owner';
import { DiskRoom, type FreeBytes } from '@sepia/store/disk-room';
import { listenForPeers, memberEngine } from '@sepia/swarm/shell/member-engine';
import { Access } from './access/access.ts';
import { namesToFetchWith } from './access/names-to-fetch-with.ts';
import { Sessions } from './access/sessions.ts';
import { createWriteBehind, openBackends } from './backend/start.ts';
import { Absence } from './blobs/absence.ts';
import { BlobIndex } from './blobs/blob-index.ts';
import { Blobs } from './blobs/blobs.ts';
import { Hints } from './blobs/hints.ts';
import { Kept } from './blobs/kept.ts';
import { openStore } from './blobs/open-store.ts';
import { Replicator } from './blobs/replicator.ts';
import { soundness } from './blobs/soundness.ts';
import { Swarms } from './blobs/swarms.ts';
import { Uploads } from './blobs/uploads.ts';
import { WholeBlobs } from './blobs/whole-blobs.ts';
import { Health } from './cluster/core/health.ts';
import { Members } from './cluster/members.ts';
import { checkedId } from './cluster/own-id.ts';
import { type OriginConfig, uploadOptions } from './config.ts';
import { ContentGuard } from './fence/content-guard.ts';
import { Fence } from './fence/core/fence.ts';
import { Fetches } from './fetch/fetches.ts';
import { byteCounters, originGauges } from './gauges.ts';
import { createGc } from './gc/start.ts';
import { originApp } from './http/origin-app.ts';
import { originRouter } from './http/origin-router.ts';
import { Manifests } from './manifests/manifests.ts';
import { PullTimes } from './manifests/pull-times.ts';
import { Recheck } from './manifests/recheck.ts';
import { LinkProofs } from './proofs/link-proofs.ts';
import { Catalog } from './records/catalog.ts';
import { Links } from './records/links.ts';
import { PublicRepositories } from './records/public-repositories.ts';
import { Quotas } from './records/quotas.ts';
import { openRecordEngine } from './records/record-engine.ts';
import { recordSets } from './records/record-sets.ts';
import { Referrers } from './records/referrers.ts';
import { TagIndex } from './records/tag-index.ts';
import { Tags } from './records/tags.ts';
import { openRecords } from './recovery/open-records.ts';
import { Invalidation } from './removal/invalidation.ts';
import { createRemoval } from './removal/start.ts';
import { createReplication } from './replication/start.ts';
import { createRing, hears } from './ring/start.ts';
import { originStatus } from './status.ts';
import { RegistryBehind } from './upstream/registry-behind.ts';
import { Upstreams } from './upstream/upstreams.ts';
import { refuseLeftBehind, refuseMoved } from './write-back/left-behind.ts';
import { createWriteBack } from './write-back/start.ts';

const CONNECT_TIMEOUT_MS = 1_000;

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
  const cluster = new Cluster(loadClusterDocument(config['cluster-document']));
  const clusterKey = readClusterKey(config['cluster-key-file']);
  const selfId = checkedId(config, cluster);
  const log = deps.log ?? createLogger('origin', selfId, config.log.level);
  const stops = new StopStack();
  return await startAll(
    stops,
    async () => await build({ config, cluster, clusterKey, selfId, log, stops, deps }),
  );
}

interface BuildParts {
  readonly config: OriginConfig;
  readonly cluster: Cluster;
  readonly clusterKey: Uint8Array;
  readonly selfId: string;
  readonly log: Logger;
  readonly stops: StopStack;
  readonly deps: OriginDeps;
}

async function build(parts: BuildParts): Promise<Origin> {
  const { config, cluster, clusterKey, selfId, log, stops } = parts;
  const { freeBytes, env = {}, acceptLoss = false } = parts.deps;
  const { deadlines, 'old-signatures': oldSignatures } = config;
  const pace = { progressMs: deadlines['fetch-progress'], firstByteMs: deadlines['first-byte'] };
  const clock = new MemberClock();
  const [nowMs, dateMs] = [steadyMs, clock.nowMs];
  const identities = { credentials: config.credentials, env };
  const startedMs = nowMs();
  const stopping = new AbortController();
  const metrics = new Metrics('origin', selfId);
  const { fetched, servedBytes } = byteCounters(metrics);

  const opened = await openRecords({ cluster, selfId, log, nowMs: dateMs }, { dir: config.data, acceptLoss });
  const { folder, standing, digests } = opened;
  stops.push('data folder', async () => await folder.close());
  let closing: string | undefined;
  stops.push('standing', async () => await standing.closeWith(closing, digests.whole));
  stops.push('records', async () => await opened.records.close());
  const kept = await openRecordEngine(
    { ...opened, clusterKey, metrics, stops, log },
    { config: config.records, acceptLoss },
  );
  const { records, standing: recordStanding } = kept;
  const index = await BlobIndex.open({ db: folder.db, records: opened.records, log });
  const room = new DiskRoom({ selfId, dir: folder.dir, log, nowMs, freeBytes });
  stops.push('disk room', () => room.stop());
  await room.start();
  const store = await openStore({ folder, room, index, log, nowMs: dateMs }, config.cache);
  stops.push('blob store', async () => await store.close());
  const sessions = new Sessions({ nowMs, dateMs });
  const backends = await openBackends({ cluster, db: folder.db, env, nowMs, stops }, pace);
  const upstreams = new Upstreams(
    {
      ...{ cluster, backends },
      log,
      ...{ nowMs, dateMs },
      ...identities,
      names: (...of) => namesToFetchWith({ members, sessions, isPrivate: access.isPrivate }, ...of),
    },
    pace,
  );
  stops.push('upstreams', async () => await upstreams.close());
  const dispatcher = createDispatcher({ connectTimeoutMs: CONNECT_TIMEOUT_MS });
  stops.push('sockets', async () => await dispatcher.destroy());
  const health = new Health();
  const signing = { dispatcher, clusterKey, memberId: selfId, clock, oldSignatures };
  const client = new InternalClient({ ...signing, onAnswer: hears(() => ring) });
  const { engine: recordsIn } = config.records;
  const members: Members = new Members({ cluster, selfId, client, health, nowMs, records: recordsIn });
  const recordMembers = kept.seenBy(members);
  const counted = { members: recordMembers, records, standing: recordStanding };
  const { policies } = cluster.document;
  const engine = memberEngine({ clusterKey, log, policies }, { id: selfId, zone: config.zone, origin: true });
  stops.push('swarm engine', async () => await engine.stop());
  const peerAddresses = await listenForPeers(engine, config['peer-listen']);

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
      ...fetched,
    },
    pace,
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
  const sets = recordSets({ ...counted, nowMs: dateMs });
  const invalidation = new Invalidation({ cluster, client, selfId, log, nowMs });
  stops.push('revocations', () => invalidation.stop());
  const proofs = new LinkProofs({ store, upstreams, members, log, nowMs });
  stops.push('link proofs', () => proofs.stop());
  const links: Links = new Links({ set: sets.links, upstreams, nowMs, dateMs, onConfirmed: proofs.note });
  invalidation.onRevoked((revoked) => {
    for (const name of revoked) proofs.forget(name);
    links.revoke(revoked);
  });
  const hints = new Hints({ records: opened.records, nowMs: dateMs });
  const { repair, scrubber } = soundness(
    { members, store, room, index, upstreams, metrics, dir: folder.dir, stops, log, nowMs, dateMs },
    { rateBytesPerSec: config.scrub.rate, everyMs: config.scrub.every, mendMs: deadlines['body-stall'] },
  );
  swarms.onComplaint((digest, piece) => repair.lookBehind(digest, piece));
  const lookAgain = async (digest: Digest): Promise<void> => await repair.look(digest);
  const replicator = new Replicator(
    { members, store, hints, upstreams, lookAgain, log },
    { stragglerMs: deadlines['copy-straggler'] },
  );
  stops.push('replicator', async () => await replicator.stop());
  const fence = new Fence();
  const owner = ownerName(clusterKey);
  const writeBehind = createWriteBehind({
    ...{
      ...{ cluster, owner },
      fence,
      db: folder.db,
      backends,
      index,
      store,
      members,
      lookAgain,
      metrics,
      log,
      nowMs,
      dateMs,
    },
  });
  stops.push('backends', async () => await writeBehind.stop());
  const absence = new Absence({ members, standing, index, isMoved: (epoch) => move.isDone(epoch) });
  const blobs = new Blobs({ members, store, links, proofs, fetches, swarms, upstreams, repair, absence });
  const onOutdated = async (epoch: number, from: string): Promise<void> => await ring.reach(epoch, from);
  const tags = new Tags({ ...counted, nowMs, dateMs, onOutdated });
  const recheck = new Recheck({ members, upstreams, log, nowMs });
  const tagIndex = new TagIndex(counted);
  const referrers = new Referrers({ set: sets.referrers, upstreams, log });
  const catalog = new Catalog({ cluster, ...counted });
  const guard = new ContentGuard({ fence, elapsedMs: nowMs });
  const behind = new RegistryBehind({ cluster, upstreams, nowMs });
  const writeBack = createWriteBack({
    ...{ cluster, ...counted, upstreams, index, store, tags, tagIndex, links },
    ...{ metrics, log, nowMs, dateMs },
  });
  const { replication, intake, queue, jobs } = createReplication({
    ...{ cluster, members, recordMembers, records, standing: recordStanding, blobs },
    ...{ store, tags, tagIndex, referrers },
    manifests: () => manifests,
    writeBack: writeBack.carryOut,
    ...identities,
    ...{ metrics, log, nowMs, dateMs },
  });
  stops.push('replication', async () => await replication.stop());
  await refuseLeftBehind({ cluster, jobs, log }, acceptLoss);
  await refuseMoved({ cluster, jobs, db: folder.db });
  const watch = writeBack.watch(replication, queue);
  stops.push('write-back', async () => await watch.stop());
  const keeps = new Kept({ members, standing, store, onKept: watch.onKept });
  const manifests: Manifests = new Manifests({
    ...{ members, store, blobs, links, keeps, proofs, quotas, tags, referrers, replicator },
    replication: intake,
    behind,
    upstreams,
    recheck,
    repair,
    guard,
    log,
    nowMs: dateMs,
  });
  const whole = new WholeBlobs({ members, store, fetches, blobs, replicator });
  const { deletes, purges, removals } = createRemoval({
    ...{ members, store, links, linkSet: sets.links, tags, tagIndex, manifests, referrers, behind },
    ...{ replication: intake, invalidation, upstreams, log, commands: new NodeCommands({ cluster, client }) },
  });
  const gc = createGc(
    {
      ...{ cluster, backends, owner, members, records, standing: recordStanding, sets, store },
      ...{ swarms, replicator, tags, manifests, invalidation },
      ...{ fence, elapsedMs: nowMs, metrics, log, nowMs: dateMs },
    },
    config['garbage-collection'],
  );
  stops.push('garbage collection', async () => await gc.stop());
  const pullTimes = new PullTimes({ upstreams, log, nowMs: dateMs });
  stops.push('pull times', async () => await pullTimes.stop());
  const publics = new PublicRepositories({ set: sets.public, log, nowMs, dateMs });
  const access: Access = new Access({ upstreams, manifests, tags, links, sessions, publics, nowMs, dateMs });
  const uploads = new Uploads(
    { selfId, store, links, quotas, replicator, guard, upstreams, room, log, nowMs },
    uploadOptions(config),
  );
  stops.push('uploads', async () => await uploads.stop());

  const { recovery, ring, move, agreement } = createRing(
    {
      ...{ ...opened, cluster, members, client, index, store, hints },
      ...{ replicator, tags, upstreams, log, nowMs },
      sweeps: gc.peers,
    },
    { compareEveryMs: config['compare-every'] },
  );
  stops.push('ring', async () => await ring.stop());
  stops.push('recovery', async () => await recovery.stop());
  originGauges(metrics, { cluster, fetches, uploads, swarms, store, room, health, recovery, index, nowMs });

  const status = async (): Promise<unknown> =>
    await originStatus({
      ...{ selfId, cluster, store, fetches, swarms, uploads, replicator, recovery, scrubber, health, room },
      ...{ writeBack, writeBehind, backends, nowMs, startedMs, peerAddresses },
    });
  const router = originRouter({
    ...{ cluster, members, standing, digests, records, sets, store, blobs, whole, links, proofs, uploads },
    ...{
      replicator,
      repair,
      guard,
      upstreams,
      quotas,
      room,
      replication,
      intake,
      queue,
      removals,
      behind,
      writeBack,
      owedTags: watch.owedTags,
      keeps,
    },
    ...{ tags, manifests, invalidation, purges, pullTimes, status, catalog, deletes, referrers, tagIndex },
    ...{ access, sessions, swarms, recordMembers, recordStanding, ring, agreement, ...recovery, ...gc },
    reach: async (epoch: number) => await ring.reach(epoch),
    stallMs: deadlines['body-stall'],
    stopping: stopping.signal,
    onBytes: (bytes) => servedBytes.inc(bytes),
  });

  const gateDeps = { clusterKey, selfId, log, metrics, clock, oldSignatures };
  const app = originApp({ ...gateDeps, cluster, standing, ring, router, recordsIn });
  const listener = await HttpListener.start(app.callback(), config.listen, 'listen');
  stops.push('listener', async () => await listener.stop(deadlines.drain));
  const notReady = (): string | undefined =>
    stopping.signal.aborted ? 'stopping' : (recovery.startUp.pending ?? kept.away);
  const admin = await startAdmin(
    {
      log,
      metrics,
      app,
      notReady,
      warnings: () => [
        ...[...ring.warnings, ...recovery.warnings, ...scrubber.warnings, ...room.warnings],
        ...[...writeBack.warnings, ...writeBehind.warnings, ...kept.warnings],
      ],
      clock,
      debug: { suspects: () => health.suspects(nowMs()) },
    },
    config['admin-listen'],
  );
  stops.push('admin', async () => await admin.stop(deadlines.drain));
  stops.push('closing', async () => {
    closing = await recovery.tellClosing();
  });
  stops.push('waits', () => stopping.abort(new CodedError('DRAINING')));
  recovery.start();
  ring.start();
  scrubber.start();
  replicator.start();
  writeBehind.start();
  pullTimes.start();
  replication.start();
  watch.start();
  gc.schedule.start();
  void store
    .reconcile()
    .catch((error: unknown) => logFailure(log, error, 'blob store was not reconciled', {}, 'error'));
  const facts = { listen: listener.hostPort, admin: admin.hostPort, peers: peerAddresses };
  log.info({ ...facts, clusterVersion: cluster.version }, 'origin is ready');
  return {
    url: listener.url,
    adminUrl: admin.url,
    peerAddresses,
    whenSettled: async () => await standing.whenSettled(),
    adjust: (next) => {
      log.level = next.log.level;
      uploads.adjust(uploadOptions(next));
    },
    stop: async () => await stops.stop(),
  };
}
