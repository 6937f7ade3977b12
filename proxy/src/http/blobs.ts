import { once } from 'node:events';
import { isCoded } from '@sepia/shared/errors';
import type { Logger } from '@sepia/shared/log';
import type { RegistryHandler } from '@sepia/shared/registry/face/registry-app';
import type { Context } from 'koa';
import { type OpenedBlob, openBlob } from '../net/blob-source.ts';
import { headerOf, type Origins } from '../net/origins.ts';
import { ResumableBody } from '../net/resumable-body.ts';
import { type BlobName, findSource } from '../net/whereabouts.ts';
import { clientSignal } from './answers.ts';

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
  /** See `ResumableBody`. */
  readonly stallMs: number;
  readonly onBytes?: (bytes: number) => void;
  readonly onResume?: () => void;
}

/** GET and HEAD of a blob, in all range forms: an origin's answer, made whole if that origin dies on the way. */
export function readBlob(deps: BlobDeps): RegistryHandler<'blob'> {
  return async (ctx, target, { digest }) => {
    const name: BlobName = { ...target, digest };
    const signal = clientSignal(ctx);
    const plan = await findSource(deps.origins, name, signal, ctx.method === 'HEAD' ? 0 : undefined);
    const headers = Object.fromEntries(
      ASKED.filter((key) => ctx.get(key) !== '').map((key) => [key, ctx.get(key)]),
    );
    if (
      ctx.method === 'HEAD' &&
      !deps.takesDeletes(target.upstream) &&
      plan.isCertain &&
      plan.sizeBytes !== undefined &&
      headers['if-none-match'] === undefined
    ) {
      return sendHead(ctx, name, plan.sizeBytes);
    }
    const method = ctx.method === 'HEAD' ? 'HEAD' : 'GET';
    try {
      const opened = await openBlob(deps.origins, plan, name, method, headers, signal);
      if (method === 'HEAD' || opened.answer.status === 304) await sendHeadersOnly(ctx, opened);
      else await sendBody(deps, ctx, name, opened, headers['range'], signal);
    } catch (error) {
      if (!ctx.headerSent && isCoded(error, 'RANGE_INVALID')) {
        const size = plan.sizeBytes ?? error.detail['sizeBytes'];
        if (typeof size === 'number') ctx.set('Content-Range', `bytes */${size}`);
      }
      throw error;
    }
  };
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
  endHead(ctx, answer.status, answer.status === 304 || length === undefined ? undefined : Number(length));
}

/** Koa drops Content-Length of answers without a body, so these are written by hand. */
function endHead(ctx: Context, status: number, sizeBytes: number | undefined): void {
  ctx.status = status;
  ctx.respond = false;
  if (sizeBytes !== undefined) ctx.res.setHeader('Content-Length', String(sizeBytes));
  ctx.res.statusCode = status;
  ctx.res.end();
}

async function sendBody(
  deps: BlobDeps,
  ctx: Context,
  name: BlobName,
  opened: OpenedBlob,
  range: string | undefined,
  signal: AbortSignal,
): Promise<void> {
  const body = new ResumableBody(deps, name, opened, range);
  try {
    let chunk = await body.next(signal);
    passHeaders(ctx, opened);
    ctx.status = opened.answer.status;
    ctx.respond = false;
    ctx.res.statusCode = opened.answer.status;
    for (; chunk !== undefined; chunk = await body.next(signal)) {
      deps.onBytes?.(chunk.length);
      if (!ctx.res.write(chunk)) await once(ctx.res, 'drain', { signal });
    }
    ctx.res.end();
    if (!ctx.res.writableFinished) await once(ctx.res, 'finish', { signal });
  } catch (error) {
    if (!ctx.headerSent) throw error;
    ctx.res.destroy();
    if (!signal.aborted) throw error;
  } finally {
    body.close();
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
