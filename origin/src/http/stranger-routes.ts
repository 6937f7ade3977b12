import type Router from '@koa/router';
import { CodedError, isCoded } from '@sepia/base/errors';
import { parseHostPort } from '@sepia/base/host-port';
import { H_BLOB_SIZE } from '@sepia/cluster/api/headers';
import { ORIGIN_BLOBS } from '@sepia/cluster/api/origin';
import type { Cluster } from '@sepia/cluster/cluster';
import { goneSignal } from '@sepia/http/client-gone';
import { serve } from '@sepia/http/router';
import type { Context } from 'koa';
import type { Access } from '../access/access.ts';
import type { Blobs } from '../blobs/blobs.ts';
import type { Swarms } from '../blobs/swarms.ts';
import type { Members } from '../cluster/members.ts';
import { MAX_STRANGER_MS, STRANGER_ANSWER_MS } from '../deadlines/own.ts';
import { StrangerAccess } from '../strangers/stranger-access.ts';
import { TorrentPieces } from '../strangers/torrent-pieces.ts';
import { relay } from './relay.ts';
import { blobNameOf, numberOf, othersOf, required } from './request.ts';

/** Strangers that one call names. */
const MAX_ADDRESSES = 32;

interface StrangerRouteDeps {
  readonly cluster: Cluster;
  /** What upstreams say of a client without credentials. */
  readonly access: Pick<Access, 'check'>;
  readonly blobs: Pick<Blobs, 'admit' | 'metainfo' | 'open'>;
  readonly swarms: Pick<Swarms, 'admitStrangers'>;
  readonly members: Members;
  readonly stopping: AbortSignal;
}

interface StrangerParts extends StrangerRouteDeps {
  readonly may: StrangerAccess;
  readonly pieces: TorrentPieces;
}

/** Routes of `/v1` by which trackers let standard clients take part: a blob as a torrent, its swarm opened. */
export function strangerRoutes(router: Router, deps: StrangerRouteDeps): void {
  const { cluster, access } = deps;
  const may = new StrangerAccess({ cluster, check: async (...asked) => await access.check(...asked) });
  const parts = { ...deps, may, pieces: new TorrentPieces(deps) };
  serve(router, ORIGIN_BLOBS.torrentPieces, async (ctx) => await torrentPieces(parts, ctx));
  serve(router, ORIGIN_BLOBS.strangers, async (ctx) => await openToStrangers(parts, ctx));
}

async function torrentPieces(deps: StrangerParts, ctx: Context): Promise<void> {
  const name = blobNameOf(ctx);
  const signal = AbortSignal.any([goneSignal(ctx), deps.stopping]);
  await deps.may.require(name);
  const late = AbortSignal.timeout(STRANGER_ANSWER_MS);
  const until = AbortSignal.any([signal, late]);
  let found = await deps.pieces.of(name, othersOf(ctx), until).catch((error: unknown) => {
    throw late.aborted && !signal.aborted ? notYet() : error;
  });
  if (found.type === 'remote') {
    try {
      return await relay(ctx, deps.members, found.id, signal);
    } catch (error) {
      if (ctx.res.headersSent || !isCoded(error, 'PEER_HTTP')) throw error;
    }
    found = await deps.pieces.of(name, 'skip', until);
    if (found.type === 'remote') throw new CodedError('NO_PEERS', { detail: { digest: name.digest } });
  }
  ctx.set(H_BLOB_SIZE, String(found.sizeBytes));
  ctx.type = 'application/octet-stream';
  ctx.body = Buffer.from(found.pieces);
}

/** Opens the swarm of a blob that is here whole. */
async function openToStrangers(deps: StrangerParts, ctx: Context): Promise<void> {
  const name = blobNameOf(ctx);
  const infoHash = required(ctx, 'infohash');
  if (!/^[0-9a-f]{40}$/.test(infoHash))
    throw new CodedError('REQUEST_INVALID', { message: 'query value infohash has 40 hex digits' });
  const ttlMs = numberOf(ctx, 'ttl', MAX_STRANGER_MS) ?? 0;
  const signal = AbortSignal.any([goneSignal(ctx), deps.stopping]);
  await deps.may.require(name);
  const options = { fetch: false, wantAll: true, others: 'skip' } as const;
  const source = await deps.blobs.metainfo(name, options, signal);
  const isHere = source.type === 'local' && source.metainfo.state === 'final';
  if (isHere) {
    const addresses = addressesOf(ctx);
    deps.swarms.admitStrangers(source.metainfo, { infoHash: Buffer.from(infoHash, 'hex'), ttlMs, addresses });
  }
  ctx.body = { open: isHere };
}

/** @throws `REQUEST_INVALID` */
function addressesOf(ctx: Context): string[] {
  const given = [ctx.query['address'] ?? []].flat();
  const wrong = given.find((one) => parseHostPort(one) === undefined);
  if (wrong === undefined && given.length <= MAX_ADDRESSES) return given;
  throw new CodedError('REQUEST_INVALID', {
    message: `query value address is host:port, at most ${MAX_ADDRESSES} times`,
  });
}

function notYet(): CodedError {
  return new CodedError('TIMEOUT', {
    message: 'the torrent is being made; ask again',
    detail: { retryAfterSeconds: 5 },
  });
}
