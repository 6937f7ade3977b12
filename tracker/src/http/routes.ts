import { type Digest, parseDigest } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import type { BlobName } from '@sepia/base/names/blob-name';
import { peerIdHexOf } from '@sepia/base/names/peer-id';
import { parseRepositoryName } from '@sepia/base/names/repository';
import {
  JOIN_REQUEST,
  type JoinAnswer,
  type OwnerEntry,
  type PeerEntry,
  SMALL_BLOB_BYTES,
} from '@sepia/cluster/api/join';
import { LEASE_REQUEST, type LeaseAnswer } from '@sepia/cluster/api/lease';
import { REVOCATIONS_BODY, type Revocation } from '@sepia/cluster/api/revocation';
import { TRACKER } from '@sepia/cluster/api/tracker';
import type { Cluster } from '@sepia/cluster/cluster';
import { LONG_POLL_MS } from '@sepia/cluster/deadlines';
import { fits } from '@sepia/cluster/message';
import { goneSignal } from '@sepia/http/client-gone';
import { createRouter, routesOf, serve } from '@sepia/http/router';
import { PROTOCOL_VERSION } from '@sepia/http/sign';
import { queryValue, readJson } from '@sepia/http/signed';
import type { Context, Middleware } from 'koa';
import type { z } from 'zod';
import type { CommandBook } from '../commands/core/command-book.ts';
import type { Revocations } from '../commands/core/revocations.ts';
import type { MetainfoKeeper } from '../metainfo/metainfo-keeper.ts';
import type { StrangerDesk } from '../strangers/stranger-desk.ts';
import type { LiveFigures } from '../swarms/core/live-figures.ts';
import { leaseMsOf, type Pace, paceOf, rejoinMs } from '../swarms/core/pace.ts';
import type { Handout, SwarmTable } from '../swarms/core/swarm-table.ts';
import { commandRoutes } from './command-routes.ts';
import { joinBody } from './join-body.ts';

export interface RouteDeps {
  readonly id: string;
  readonly cluster: Cluster;
  readonly table: SwarmTable;
  readonly keeper: MetainfoKeeper;
  readonly figures: LiveFigures;
  readonly commands: CommandBook;
  readonly revocations: Revocations;
  readonly desk: StrangerDesk;
  readonly heartbeatMs: number;
  readonly nowMs: () => number;
  readonly startedMs: number;
  readonly stopping: AbortSignal;
}

/** The tracker's routes for members: join, metainfo, leases, commands, status. */
export function memberRoutes(deps: RouteDeps): Middleware {
  const router = createRouter();
  serve(router, TRACKER.join, async (ctx, params) => {
    const digest = parseDigest(params.digest);
    const request = await readJson(ctx, TRACKER.join.body.maxBytes, fits(JOIN_REQUEST));
    const { answer, nodes = [] } = await join(deps, digest, request);
    ctx.type = 'json';
    ctx.body = joinBody(answer, nodes);
  });
  serve(router, TRACKER.metainfo, async (ctx, params) => {
    await metainfo(deps, ctx, parseDigest(params.digest));
  });
  serve(router, TRACKER.lease, async (ctx, { id }) => {
    const { maxBytes } = TRACKER.lease.body;
    ctx.body = renew(deps, id, await readJson(ctx, maxBytes, fits(LEASE_REQUEST)));
  });
  serve(router, TRACKER.leave, (ctx, { id }) => {
    deps.table.forget(id);
    deps.figures.forget(id);
    ctx.status = 204;
  });
  commandRoutes(router, deps);
  serve(router, TRACKER.revocations, async (ctx) => {
    const { maxBytes } = TRACKER.revocations.body;
    const { revoked } = await readJson(ctx, maxBytes, fits(REVOCATIONS_BODY));
    deps.keeper.revoke(revoked as Revocation[]);
    deps.revocations.add(revoked as Revocation[], deps.nowMs());
    ctx.status = 204;
  });
  serve(router, TRACKER.status, (ctx) => {
    ctx.body = status(deps);
  });
  return routesOf(router);
}

async function join(
  deps: RouteDeps,
  digest: Digest,
  request: z.output<typeof JOIN_REQUEST>,
): Promise<{ readonly answer: JoinAnswer; readonly nodes?: readonly Handout[] }> {
  const repository = parseRepositoryName(request.repository);
  const name: BlobName = { digest, upstream: request.upstream, repository };
  const facts = { nodeId: request.nodeId, addresses: request.addresses, zone: request.zone };
  const wish = { all: request.want === 'all', piece: request.piece };
  const { metainfo, originIds } = await deps.keeper.get(name, wish);
  const owners = ownerEntries(deps.cluster, digest, originIds);
  const { sizeBytes } = metainfo;
  if (sizeBytes <= SMALL_BLOB_BYTES) return { answer: { kind: 'small', sizeBytes, owners } };
  deps.table.join(facts, digest, request.leeching, leaseMsOf(0, pace(deps)), deps.nowMs());
  const strangers = deps.desk.forJoin(digest, facts.nodeId);
  return {
    answer: {
      kind: 'swarm',
      sizeBytes,
      metainfo: Buffer.from(metainfo.encode()).toString('base64'),
      owners,
      peers: originPeers(deps.cluster, originIds),
      intervalMs: rejoinMs(deps.table.leecherCount(digest)),
      ...(strangers === undefined ? {} : { strangers }),
    },
    nodes: deps.table.handout(digest, facts, request.numwant),
  };
}

async function metainfo(deps: RouteDeps, ctx: Context, digest: Digest): Promise<void> {
  const repository = parseRepositoryName(needed(ctx, 'repository'));
  const name: BlobName = { digest, upstream: needed(ctx, 'upstream'), repository };
  const waitMs = Math.min(LONG_POLL_MS, Number(queryValue(ctx, 'wait') ?? 0) || 0);
  const from = Math.max(0, Number(queryValue(ctx, 'from') ?? 0) || 0);
  const etag = ctx.get('if-none-match');
  const found = await deps.keeper.wait(name, etag, waitMs, AbortSignal.any([goneSignal(ctx), deps.stopping]));
  if (found === undefined) {
    ctx.status = 304;
    return;
  }
  const sameAttempt = etag.startsWith(`"${found.attempt}.`);
  ctx.set('ETag', found.etag);
  ctx.type = 'application/octet-stream';
  ctx.body = Buffer.from(found.encode(sameAttempt ? from : 0));
}

function renew(deps: RouteDeps, nodeId: string, request: z.output<typeof LEASE_REQUEST>): LeaseAnswer {
  const { resync, refused, twin } = deps.table.renew(
    { nodeId, ...request, ttlMs: leaseMsOf(request.ttlMs, pace(deps)) },
    deps.nowMs(),
  );
  if (refused) throw new CodedError('OVERLOADED', { message: 'too many nodes have a lease here' });
  deps.figures.note(nodeId, request.swarms, deps.nowMs(), request.self);
  deps.commands.report({ nodeId, address: request.addresses[0] }, request.bootId, request.commands);
  const { commands, unfinished } = deps.commands.due(nodeId, request.bootId, deps.nowMs());
  const { revoked, cursor } = deps.revocations.after(request.revokedAfter, deps.nowMs());
  const strangers = deps.desk.forNode(nodeId);
  const { heartbeatMs, watchedMs } = pace(deps);
  return {
    heartbeatMs: unfinished ? watchedMs : heartbeatMs,
    watchedMs,
    ...(resync ? { resync } : {}),
    ...(twin === undefined ? {} : { twin }),
    commands,
    revoked,
    revokedCursor: cursor,
    clusterVersion: deps.cluster.version,
    ...(strangers.length === 0 ? {} : { strangers }),
  };
}

function pace({ table, heartbeatMs }: RouteDeps): Pace {
  return paceOf(table.nodeCount, heartbeatMs);
}

function status(deps: RouteDeps): unknown {
  const nowMs = deps.nowMs();
  return {
    id: deps.id,
    version: PROTOCOL_VERSION,
    uptimeSeconds: Math.round((nowMs - deps.startedMs) / 1000),
    nodes: [...deps.table.nodes()].slice(0, 2_000).map(({ facts, heardAtMs, seeds }) => ({
      id: facts.nodeId,
      zone: facts.zone,
      addresses: facts.addresses,
      seeds,
      ageMs: Math.round(nowMs - heardAtMs),
      ...deps.figures.selfOf(facts.nodeId),
    })),
    swarms: [...deps.keeper.running()].slice(-64).map(([digest, { metainfo, originIds }]) => ({
      digest,
      sizeBytes: metainfo.sizeBytes,
      pieces: metainfo.pieceCount,
      known: metainfo.knownCount,
      state: metainfo.state,
      origins: originIds,
      peers: deps.figures.of(digest, nowMs),
    })),
  };
}

/** Those that hold it first, then the other owners. A holder that has left the cluster meanwhile is left out. */
function ownerEntries(cluster: Cluster, digest: Digest, holderIds: readonly string[]): OwnerEntry[] {
  const ids = [...new Set([...holderIds, ...cluster.origins(digest).owners])];
  return ids.flatMap((id) => cluster.findMember(id) ?? []).map(({ id, urls }) => ({ id, urls }));
}

function originPeers(cluster: Cluster, originIds: readonly string[]): PeerEntry[] {
  const members = originIds.flatMap((id) => cluster.findMember(id) ?? []);
  return members.map(({ id, peers, zone }) => ({
    peerId: peerIdHexOf(id),
    nodeId: id,
    addresses: peers,
    origin: true,
    ...(zone === undefined ? {} : { zone }),
  }));
}

function needed(ctx: Context, name: string): string {
  const value = queryValue(ctx, name);
  if (value === undefined) throw new CodedError('REQUEST_INVALID', { message: `query ${name} is missing` });
  return value;
}
