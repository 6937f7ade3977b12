import { SingleFlight } from '@sepia/base/async/single-flight';
import { isCoded } from '@sepia/base/errors';
import type { Logger } from '@sepia/base/log';
import type { BlobName } from '@sepia/base/names/blob-name';
import type { RegistryHandler } from '@sepia/face/registry-app';
import { goneSignal } from '@sepia/http/client-gone';
import { asksToResume, resumeRefused, serveBlob } from '@sepia/http/serve-blob';
import { clientHas } from '@sepia/oci/etag';
import { rangeWish } from '@sepia/oci/range';
import type { Context } from 'koa';
import { type OpenedBlob, openBlob } from '../bodies/blob-source.ts';
import type { SourcePlan } from '../bodies/core/choose-source.ts';
import { askEarly, type EarlyMetainfo, openOriginBlob } from '../bodies/origin-blob.ts';
import { findSource } from '../bodies/whereabouts.ts';
import { headerOf, type Origins } from '../cluster/origins.ts';
import { FIRST_PIECE_MS, JOIN_MS } from '../deadlines.ts';

/** Headers of a client that decide what the origin answers. */
const ASKED = ['range', 'if-range', 'if-none-match'] as const;
/** Headers of the origin's answer that the client gets. */
const PASSED = [
  'content-type',
  'content-length',
  'content-range',
  'accept-ranges',
  'etag',
  'cache-control',
  'docker-content-digest',
] as const;

interface BlobDeps {
  readonly origins: Origins;
  readonly log: Logger;
  /** Where links can be deleted, one origin's word for one is not enough. */
  readonly takesDeletes: (upstream: string) => boolean;
  /** A body that makes no progress at any origin for this long is cut, in ms. */
  readonly stallMs: number;
  readonly onBytes?: (bytes: number) => void;
  readonly onResume?: () => void;
}

/** GET and HEAD of a blob, in all range forms: an origin's answer, made whole if that origin dies on the way. */
export function readBlob(deps: BlobDeps): RegistryHandler<'blob'> {
  const finding = new SingleFlight<string, SourcePlan>({ joinMs: JOIN_MS });
  return async (ctx, target, { digest }) => {
    const name: BlobName = { ...target, digest };
    const signal = goneSignal(ctx);
    const graceMs = ctx.method === 'HEAD' ? 0 : undefined;
    // 500 who ask for one blob at once are one question to the origins.
    const key = `${target.upstream}\n${target.repository}\n${digest}\n${graceMs}`;
    const find = async (abort: AbortSignal): Promise<SourcePlan> =>
      await findSource(deps.origins, name, abort, graceMs);
    const isBody = ctx.method !== 'HEAD' && !clientHas(ctx.get('if-none-match'), `"${digest}"`);
    const early = isBody && ctx.get('range') === '' ? askEarly(deps, name, signal) : undefined;
    try {
      const plan = await finding.run(key, find, signal);
      await answerBy(deps, ctx, name, { plan, isBody, early }, signal);
    } finally {
      early?.drop();
    }
  };
}

interface Found {
  readonly plan: SourcePlan;
  /** False: headers alone. */
  readonly isBody: boolean;
  readonly early?: EarlyMetainfo | undefined;
}

async function answerBy(
  deps: BlobDeps,
  ctx: Context,
  name: BlobName,
  { plan, isBody, early }: Found,
  signal: AbortSignal,
): Promise<void> {
  const headers = Object.fromEntries(
    ASKED.filter((key) => ctx.get(key) !== '').map((key) => [key, ctx.get(key)]),
  );
  if (
    ctx.method === 'HEAD' &&
    !deps.takesDeletes(name.upstream) &&
    plan.isDefinite &&
    plan.sizeBytes !== undefined &&
    headers['if-none-match'] === undefined
  ) {
    return sendHead(ctx, name, plan.sizeBytes);
  }
  try {
    if (isBody) return await sendBody(deps, ctx, name, { plan, early }, signal);
    await sendHeadersOnly(ctx, await openBlob(deps.origins, plan, name, 'HEAD', headers, signal));
  } catch (error) {
    if (!ctx.headerSent && isCoded(error, 'RANGE_INVALID')) {
      const size = plan.sizeBytes ?? error.detail['sizeBytes'];
      if (typeof size === 'number') ctx.set('Content-Range', `bytes */${size}`);
    }
    throw error;
  }
}

function sendHead(ctx: Context, name: BlobName, sizeBytes: number): void {
  ctx.set('Content-Type', 'application/octet-stream');
  ctx.set('Accept-Ranges', 'bytes');
  ctx.set('ETag', `"${name.digest}"`);
  ctx.set('Cache-Control', 'max-age=31536000');
  ctx.set('Docker-Content-Digest', name.digest);
  endHead(ctx, 200, sizeBytes);
}

async function sendHeadersOnly(ctx: Context, opened: OpenedBlob): Promise<void> {
  const { answer } = opened;
  await answer.body.dump();
  passHeaders(ctx, opened);
  ctx.remove('Content-Length');
  const length = headerOf(answer, 'content-length');
  // A GET comes here only when its client has the blob: an origin's 200 to HEAD says that it is still there.
  const status = ctx.method === 'GET' && answer.status === 200 ? 304 : answer.status;
  endHead(ctx, status, status === 304 || length === undefined ? undefined : Number(length));
}

/** Koa drops Content-Length of answers without a body, so these are written by hand. */
function endHead(ctx: Context, status: number, sizeBytes: number | undefined): void {
  ctx.status = status;
  ctx.respond = false;
  if (sizeBytes !== undefined) ctx.res.setHeader('Content-Length', String(sizeBytes));
  ctx.res.statusCode = status;
  ctx.res.end();
}

/** An attempt that was dropped before any byte was sent is begun again this often. */
const MAX_TRIES = 3;

async function sendBody(
  deps: BlobDeps,
  ctx: Context,
  name: BlobName,
  found: Pick<Found, 'plan' | 'early'>,
  signal: AbortSignal,
): Promise<void> {
  let { plan, early } = found;
  for (let tries = 1; ; tries++) {
    if (plan.cameWrong && asksToResume(ctx, name.digest)) throw resumeRefused(name.digest);
    const wish = rangeWish(ctx.get('range'), plan.sizeBytes);
    const opened = await openOriginBlob(deps, name, plan, wish, signal, early);
    early = undefined;
    try {
      if (plan.cameWrong && wish.want === 'all') await opened.blob.whenFinal(signal);
      return await serveBlob(ctx, opened.blob, {
        // Bytes, whatever a manifest calls them: the page has the same origin, and a manifest may say text/html.
        contentType: 'application/octet-stream',
        stallMs: deps.stallMs,
        firstPieceMs: FIRST_PIECE_MS,
        ...(deps.onBytes === undefined ? {} : { onBytes: deps.onBytes }),
      });
    } catch (error) {
      if (!isCoded(error, 'STALE_ATTEMPT') || ctx.headerSent || tries >= MAX_TRIES || signal.aborted)
        throw error;
    } finally {
      opened.close();
    }
    plan = await findSource(deps.origins, name, signal);
  }
}

function passHeaders(ctx: Context, opened: OpenedBlob): void {
  for (const name of PASSED) {
    const value = headerOf(opened.answer, name);
    if (value !== undefined) ctx.set(name, value);
  }
  // Bytes, whatever a manifest calls them: the page has the same origin, and a manifest may say text/html.
  if (headerOf(opened.answer, 'content-type')?.startsWith('multipart/byteranges') !== true)
    ctx.set('Content-Type', 'application/octet-stream');
}
