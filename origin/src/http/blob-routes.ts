import type Router from '@koa/router';
import { CodedError, isCoded, takesNoWrites } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { delay } from '@sepia/base/lifecycle';
import { type BlobFetchState, WORDS_BODY, type WordsAnswer } from '@sepia/cluster/api/blob-answers';
import {
  H_ATTEMPT,
  H_BLOB_SIZE,
  H_BROUGHT,
  H_CLASS,
  H_HOP,
  H_LINKS,
  H_MEDIA_TYPE,
  H_PIECE_HASH,
} from '@sepia/cluster/api/headers';
import type { PeerEntry } from '@sepia/cluster/api/join';
import { ORIGIN_BLOBS } from '@sepia/cluster/api/origin';
import { FIRST_ANSWER_MS, LONG_POLL_MS } from '@sepia/cluster/deadlines';
import { fits } from '@sepia/cluster/message';
import { rightLeaves } from '@sepia/http/bodies/checked-body';
import { goneSignal } from '@sepia/http/client-gone';
import { serve } from '@sepia/http/router';
import { serveBlob, serveHead } from '@sepia/http/serve-blob';
import { bodyOf, queryValue, readJson } from '@sepia/http/signed';
import { Metainfo } from '@sepia/metainfo/metainfo';
import { PIECE_BYTES, pieceCount } from '@sepia/metainfo/tree';
import { parseRange } from '@sepia/oci/range';
import type { Context } from 'koa';
import type { Blobs, MetainfoSource } from '../blobs/blobs.ts';
import { broughtOf } from '../blobs/core/brought-by.ts';
import type { Repair } from '../blobs/repair.ts';
import type { Replicator } from '../blobs/replicator.ts';
import type { Uploads } from '../blobs/uploads.ts';
import type { WholeBlobs } from '../blobs/whole-blobs.ts';
import type { Members } from '../cluster/members.ts';
import { GATHER_MS, RELAY_SLACK_MS } from '../deadlines/members.ts';
import type { ContentGuard } from '../fence/content-guard.ts';
import { broughtHeader } from '../manifests/recheck.ts';
import type { LinkProofs } from '../proofs/link-proofs.ts';
import { wordsOf } from '../proofs/words.ts';
import type { Links } from '../records/links.ts';
import { PEER_ENTRIES, ridingLinks } from './messages.ts';
import { relay } from './relay.ts';
import {
  blobNameOf,
  broughtAuthorization,
  clientOf,
  contentLength,
  digestParam,
  numberOf,
  othersOf,
} from './request.ts';

const EAGER_HASHES = 8;
/** Pieces of the largest blob. */
const MAX_PIECES = 2 ** 24;
/** Pieces whose leaf hashes one answer tells. */
const MAX_LEAVES_PIECES = 256;

export interface BlobRouteDeps {
  readonly blobs: Blobs;
  readonly whole: WholeBlobs;
  readonly links: Links;
  readonly proofs: Pick<LinkProofs, 'requireFor'>;
  readonly uploads: Uploads;
  readonly replicator: Replicator;
  readonly members: Members;
  readonly repair: Pick<Repair, 'lookBehind'>;
  readonly guard: Pick<ContentGuard, 'rescue' | 'isCondemned'>;
  readonly stallMs: number;
  readonly stopping: AbortSignal;
  readonly onBytes: (bytes: number) => void;
}

/** Blob routes of `/v1`: where, metainfo, adopt, bytes, copies. */
export function blobRoutes(router: Router, deps: BlobRouteDeps): void {
  serve(router, ORIGIN_BLOBS.where, async (ctx) => {
    const name = blobNameOf(ctx);
    // Whoever asks may count on it, as a copy that need not be made.
    deps.guard.rescue(name.digest);
    ctx.body = await deps.blobs.where(name);
  });
  serve(router, ORIGIN_BLOBS.words, async (ctx) => {
    const { asked } = await readJson(ctx, ORIGIN_BLOBS.words.body.maxBytes, fits(WORDS_BODY));
    for (const { digest } of asked) deps.guard.rescue(digest);
    const signal = AbortSignal.any([goneSignal(ctx), deps.stopping]);
    ctx.body = { told: await wordsOf(deps.blobs, asked, signal) } satisfies WordsAnswer;
  });
  serve(router, ORIGIN_BLOBS.metainfo, async (ctx) => await getMetainfo(deps, ctx));
  serve(router, ORIGIN_BLOBS.leaves, async (ctx) => await getLeaves(deps, ctx));
  serve(router, ORIGIN_BLOBS.complaints, (ctx) => complain(deps, ctx));
  serve(router, ORIGIN_BLOBS.adopt, async (ctx) => await adopt(deps, ctx));
  serve(router, ORIGIN_BLOBS.fetch, async (ctx) => await fetchWhole(deps, ctx));
  serve(router, ORIGIN_BLOBS.delivery, async (ctx) => {
    const signal = AbortSignal.any([goneSignal(ctx), deps.stopping]);
    const kind = queryValue(ctx, 'kind') === 'manifest' ? 'manifest' : 'blob';
    await deps.proofs.requireFor(blobNameOf(ctx), kind, signal);
    ctx.body = {};
  });
  serve(router, ORIGIN_BLOBS.blob, async (ctx) => await getBlob(deps, ctx));
  serve(router, ORIGIN_BLOBS.piece, async (ctx) => await getPiece(deps, ctx));
  serve(router, ORIGIN_BLOBS.blobPut, async (ctx) => await putBlob(deps, ctx));
}

async function getMetainfo(deps: BlobRouteDeps, ctx: Context): Promise<void> {
  const name = blobNameOf(ctx);
  // As with `where`, in place of which a tracker may ask this.
  deps.guard.rescue(name.digest);
  const signal = AbortSignal.any([goneSignal(ctx), deps.stopping]);
  const options = {
    fetch: queryValue(ctx, 'fetch') === '1',
    wantAll: queryValue(ctx, 'want') !== 'ranges',
    raise: queryValue(ctx, 'want') === 'all',
    firstPiece: numberOf(ctx, 'piece', MAX_PIECES),
    others: othersOf(ctx),
  };
  const source = await deps.blobs.metainfo(name, options, signal);
  if (source.type === 'remote') {
    try {
      return await relay(ctx, deps.members, source.id, signal, 'wait');
    } catch (error) {
      if (ctx.res.headersSent || !isCoded(error, 'PEER_HTTP') || !options.fetch) throw error;
    }
    return await answerMetainfo(
      deps,
      ctx,
      await deps.blobs.metainfo(name, { ...options, others: 'skip' }, signal),
      signal,
    );
  }
  await answerMetainfo(deps, ctx, source, signal);
}

async function answerMetainfo(
  deps: BlobRouteDeps,
  ctx: Context,
  source: MetainfoSource,
  signal: AbortSignal,
): Promise<void> {
  if (source.type === 'remote') return await relay(ctx, deps.members, source.id, signal, 'wait');
  const waitMs = numberOf(ctx, 'wait', LONG_POLL_MS) ?? 0;
  const from = numberOf(ctx, 'from', Number.MAX_SAFE_INTEGER) ?? 0;
  const known = ctx.get('if-none-match');
  let { metainfo } = source;
  const { fetch } = source;
  if (fetch !== undefined && waitMs > 0 && metainfo.state === 'open') {
    const late = AbortSignal.any([AbortSignal.timeout(waitMs), signal]);
    try {
      while (fetch.error === undefined && (fetch.metainfo ?? metainfo).etag === known)
        await fetch.changed(late);
    } catch (error) {
      throwIfBug(error);
      signal.throwIfAborted();
    }
    if (fetch.error !== undefined) throw fetch.error;
    if (metainfo.knownCount > EAGER_HASHES) await delay(GATHER_MS);
    metainfo = fetch.metainfo ?? metainfo;
  }
  ctx.set('ETag', metainfo.etag);
  ctx.set(H_BLOB_SIZE, String(metainfo.sizeBytes));
  if (known === metainfo.etag) {
    ctx.status = 304;
    return;
  }
  // Another attempt, or none known before: everything is told.
  const sameAttempt = known.startsWith(`"${metainfo.attempt}.`);
  ctx.type = 'application/octet-stream';
  ctx.body = Buffer.from(metainfo.encode(sameAttempt ? Math.min(from, metainfo.pieceCount) : 0));
}

/** Answers when the blob is stored, or after `wait` ms with how far it is. */
async function fetchWhole(deps: BlobRouteDeps, ctx: Context): Promise<void> {
  const name = blobNameOf(ctx);
  const signal = AbortSignal.any([goneSignal(ctx), deps.stopping]);
  const waitMs = numberOf(ctx, 'wait', LONG_POLL_MS) ?? 0;
  const wait = AbortSignal.timeout(waitMs);
  const authorization = broughtAuthorization(ctx);
  const copies = queryValue(ctx, 'copies') === 'all' ? 'all' : 'one';
  const wish = { copies, authorization } as const;
  let found = await deps.whole.want(name, { ...wish, others: othersOf(ctx) }, wait, signal);
  if ('remote' in found) {
    const { remote } = found;
    const headers = { [H_HOP]: '1', ...broughtHeader(authorization) };
    const call = {
      method: 'POST',
      path: ctx.url,
      headers,
      headersTimeoutMs: waitMs + RELAY_SLACK_MS,
      lasts: 'wait',
    } as const;
    try {
      ctx.body = await deps.members.attended(
        remote,
        async (late) => await deps.members.json<BlobFetchState>(remote, { ...call, signal: late }),
        signal,
      );
      return;
    } catch (error) {
      if (!isCoded(error, 'PEER_HTTP') && !takesNoWrites(error)) throw error;
    }
    found = await deps.whole.want(name, { ...wish, others: 'skip' }, wait, signal);
    if ('remote' in found) throw new CodedError('NO_PEERS', { detail: { digest: name.digest } });
  }
  ctx.body = found;
}

async function adopt(deps: BlobRouteDeps, ctx: Context): Promise<void> {
  const name = blobNameOf(ctx);
  const signal = AbortSignal.any([goneSignal(ctx), deps.stopping]);
  const { known, peers } = await readJson(ctx, ORIGIN_BLOBS.adopt.body.maxBytes, adoptBody);
  if (known.digest !== name.digest)
    throw new CodedError('METAINFO_INVALID', { message: 'metainfo is of another blob' });
  const wantAll = queryValue(ctx, 'want') !== 'ranges';
  await answerMetainfo(deps, ctx, await deps.blobs.adopt(name, known, peers, wantAll, signal), signal);
}

function adoptBody(value: unknown): { known: Metainfo; peers: PeerEntry[] } {
  const { metainfo, peers } = (value ?? {}) as { metainfo?: unknown; peers?: unknown };
  const list = PEER_ENTRIES.safeParse(peers ?? []);
  if (typeof metainfo !== 'string' || !list.success)
    throw new CodedError('REQUEST_INVALID', { message: 'adopt needs metainfo (base64) and peers' });
  return { known: Metainfo.decode(Buffer.from(metainfo, 'base64')), peers: list.data as PeerEntry[] };
}

async function getBlob(deps: BlobRouteDeps, ctx: Context): Promise<void> {
  const name = blobNameOf(ctx);
  const others = othersOf(ctx);
  const signal = AbortSignal.any([goneSignal(ctx), deps.stopping]);
  if (ctx.method === 'HEAD') {
    const { sizeBytes, mediaType } = await deps.blobs.head(name, others, signal);
    // A push that is told so does not bring it again.
    await deps.links.touch(name, deps.guard.isCondemned(name));
    return serveHead(
      ctx,
      { digest: name.digest, sizeBytes },
      { contentType: mediaType ?? 'application/octet-stream' },
    );
  }
  const lastPiece = boundOf(ctx.get('range'));
  const asIs = queryValue(ctx, 'as-is') === '1';
  let opened = await deps.blobs.open(name, { lastPiece, others, asIs }, signal);
  if (opened.type === 'remote') {
    try {
      return await relay(ctx, deps.members, opened.id, signal);
    } catch (error) {
      if (ctx.res.headersSent || !isCoded(error, 'PEER_HTTP')) throw error;
    }
    opened = await deps.blobs.openHere(name, lastPiece, signal);
    if (opened.type === 'remote') throw new CodedError('NO_PEERS', { detail: { digest: name.digest } });
  }
  try {
    const { mediaType, storedAs, blob } = opened;
    if (storedAs !== undefined) ctx.set(H_MEDIA_TYPE, storedAs);
    await serveBlob(ctx, blob, {
      contentType: mediaType ?? 'application/octet-stream',
      stallMs: deps.stallMs,
      firstPieceMs: FIRST_ANSWER_MS.origin,
      onBytes: deps.onBytes,
    });
  } finally {
    await opened.close();
  }
}

/** Leaf hashes of pieces: those of the first are waited for, further ones are told as far as they are here. */
async function getLeaves(deps: BlobRouteDeps, ctx: Context): Promise<void> {
  const name = blobNameOf(ctx);
  const first = numberOf(ctx, 'from', Number.MAX_SAFE_INTEGER) ?? 0;
  const count = numberOf(ctx, 'count', MAX_LEAVES_PIECES) ?? 1;
  const signal = AbortSignal.any([goneSignal(ctx), deps.stopping]);
  let opened = await deps.blobs.open(name, { lastPiece: first, others: othersOf(ctx) }, signal);
  if (opened.type === 'remote') {
    try {
      return await relay(ctx, deps.members, opened.id, signal, 'wait');
    } catch (error) {
      if (ctx.res.headersSent || !isCoded(error, 'PEER_HTTP')) throw error;
    }
    opened = await deps.blobs.openHere(name, first, signal);
    if (opened.type === 'remote') throw new CodedError('NO_PEERS', { detail: { digest: name.digest } });
  }
  const { blob } = opened;
  try {
    const end = Math.min(first + count, pieceCount(blob.sizeBytes));
    if (first >= end) throw new CodedError('RANGE_INVALID', { detail: { sizeBytes: blob.sizeBytes } });
    const reader = blob.openReader(first, first * PIECE_BYTES);
    const told: Uint8Array[] = [];
    try {
      for (let piece = first; piece < end && (piece === first || blob.has(piece)); piece++)
        told.push(await rightLeaves(blob, piece, signal));
    } finally {
      reader.close();
    }
    ctx.type = 'application/octet-stream';
    ctx.body = Buffer.concat(told);
  } finally {
    await opened.close();
  }
}

/** A receiver got a piece of us that does not match its hash: it is read again here, behind the answer. */
function complain(deps: BlobRouteDeps, ctx: Context): void {
  const digest = digestParam(ctx);
  const piece = numberOf(ctx, 'piece', Number.MAX_SAFE_INTEGER);
  deps.repair.lookBehind(digest, piece);
  ctx.status = 202;
  ctx.body = {};
}

/** One piece with its hash, or the hash alone (204) where another asker has the bytes. */
async function getPiece(deps: BlobRouteDeps, ctx: Context): Promise<void> {
  const name = blobNameOf(ctx);
  const signal = AbortSignal.any([goneSignal(ctx), deps.stopping]);
  const index = pieceIndexOf(ctx);
  const lastPiece = numberOf(ctx, 'last', MAX_PIECES) ?? index;
  let found = await deps.blobs.piece(name, index, { lastPiece, others: othersOf(ctx) }, signal);
  if (found.type === 'remote') {
    try {
      return await relay(ctx, deps.members, found.id, signal, 'wait');
    } catch (error) {
      if (ctx.res.headersSent || !isCoded(error, 'PEER_HTTP')) throw error;
    }
    found = await deps.blobs.piece(name, index, { lastPiece, others: 'skip' }, signal);
    if (found.type === 'remote') throw new CodedError('NO_PEERS', { detail: { digest: name.digest } });
  }
  const { attempt, hash, bytes } = found;
  ctx.set(H_ATTEMPT, attempt);
  ctx.set(H_PIECE_HASH, Buffer.from(hash).toString('hex'));
  if (bytes === undefined) {
    ctx.status = 204;
    return;
  }
  ctx.type = 'application/octet-stream';
  ctx.body = bytes;
  deps.onBytes(bytes.length);
}

function pieceIndexOf(ctx: Context): number {
  const text = String((ctx as unknown as { params: Record<string, string> }).params['index'] ?? '');
  if (!/^\d{1,8}$/.test(text))
    throw new CodedError('REQUEST_INVALID', { message: 'index of a piece is not a number' });
  return Number(text);
}

/** Last piece that bounded ranges cover; undefined when the whole blob or its end is asked. */
function boundOf(range: string): number | undefined {
  if (range === '') return undefined;
  // A suffix needs the size to be placed: the blob is then fetched as its readers move.
  if (/^bytes\s*=\s*-\d+$/i.test(range.trim())) return Number.MAX_SAFE_INTEGER;
  try {
    const asked = parseRange(range, Number.MAX_SAFE_INTEGER);
    if (asked.type === 'single' && !asked.openEnded) return Math.floor(asked.range.end / PIECE_BYTES);
    if (asked.type === 'several') {
      const last = Math.max(...asked.ranges.map((one) => one.end));
      return last >= Number.MAX_SAFE_INTEGER - 1 ? undefined : Math.floor(last / PIECE_BYTES);
    }
  } catch (error) {
    throwIfBug(error);
    // Said properly once the size is known.
  }
  return undefined;
}

async function putBlob(deps: BlobRouteDeps, ctx: Context): Promise<void> {
  const name = blobNameOf(ctx);
  let taken: object | undefined;
  if (queryValue(ctx, 'copy') === '1') {
    const kind = ctx.get(H_CLASS);
    if (kind !== 'pushed' && kind !== 'cached')
      throw new CodedError('REQUEST_INVALID', { message: `${H_CLASS} must be pushed or cached` });
    const mediaType = ctx.get(H_MEDIA_TYPE);
    const riding = ridingLinks(ctx.get(H_LINKS));
    const take = async ({ atMs, links }: NonNullable<typeof riding>): Promise<void> => {
      taken = { links: await deps.links.take(name, atMs, links) };
    };
    const facts = {
      class: kind,
      brought: broughtOf(ctx.get(H_BROUGHT)),
      mediaType: mediaType === '' ? undefined : mediaType,
      roomBytes: contentLength(ctx) ?? 0,
      beside: riding && (async () => await take(riding)),
    } as const;
    const put = async (): Promise<void> => await deps.uploads.putCopy(name, bodyOf(ctx), facts);
    await (queryValue(ctx, 'hint') === '1' ? deps.replicator.standIn(name, put) : put());
  } else if (queryValue(ctx, 'made') === '1') {
    await deps.uploads.putMade(name, bodyOf(ctx), contentLength(ctx) ?? 0);
  } else {
    const asked = { client: clientOf(ctx), signal: goneSignal(ctx) };
    await deps.uploads.putWhole(name, bodyOf(ctx), contentLength(ctx) ?? 0, asked);
  }
  ctx.set('Docker-Content-Digest', name.digest);
  ctx.status = 201;
  ctx.body = taken ?? '';
}
