import type { Digest } from '@sepia/shared/digest';
import { CodedError, isCoded } from '@sepia/shared/errors';
import { serveBlob } from '@sepia/shared/http/serve-blob';
import { sendManifest } from '@sepia/shared/registry/face/manifest-answer';
import type { RegistryHandlers } from '@sepia/shared/registry/face/registry-app';
import type { Context } from 'koa';
import type { BlobTable, Lease } from '../downloads/blob-table.ts';
import type { Manifests } from '../net/manifests.ts';
import type { BlobName } from '../net/tracker-client.ts';

/** A stale attempt or a damaged start is tried again this often before any byte was sent. */
const MAX_TRIES = 3;

interface HandlerDeps {
  readonly blobs: BlobTable;
  readonly manifests: Manifests;
  readonly onCacheBytes: (bytes: number) => void;
  /** Longest wait for the first verified piece, in ms. */
  readonly firstPieceMs: number;
  /** No verified progress in mid-body for this long: the body is cut, in ms. */
  readonly stallMs: number;
}

/** The read side of the registry that clients on the node see. */
export function agentHandlers(deps: HandlerDeps): RegistryHandlers {
  return {
    manifest: async (ctx, target, route) => {
      sendManifest(ctx, await deps.manifests.get(target, route.reference, goneSignal(ctx)));
    },
    blob: async (ctx, target, route) => {
      const name = { ...target, digest: route.digest };
      if (ctx.method === 'HEAD') await head(ctx, name, deps);
      else await get(ctx, name, deps);
    },
    tags: async (ctx, target) => {
      const { bytes, link } = await deps.manifests.tags(target, tagQuery(ctx), goneSignal(ctx));
      ctx.type = 'application/json; charset=utf-8';
      if (link !== undefined) ctx.set('Link', link);
      ctx.body = bytes;
    },
  };
}

async function head(ctx: Context, name: BlobName, deps: HandlerDeps): Promise<void> {
  const sizeBytes = await deps.blobs.sizeBytes(name, goneSignal(ctx));
  await serveBlob(ctx, headOnly(name.digest, sizeBytes), {
    contentType: 'application/octet-stream',
    stallMs: deps.stallMs,
    firstPieceMs: deps.firstPieceMs,
  });
}

async function get(ctx: Context, name: BlobName, deps: HandlerDeps): Promise<void> {
  const gone = goneSignal(ctx);
  for (let tries = 1; ; tries++) {
    const lease = await deps.blobs.get(name, gone);
    try {
      await serve(ctx, lease, deps, gone);
      return;
    } catch (error) {
      const again = isCoded(error, 'STALE_ATTEMPT') || isCoded(error, 'UPSTREAM_LIES');
      if (!again || ctx.headerSent || tries >= MAX_TRIES || gone.aborted) throw error;
    } finally {
      lease.release();
    }
  }
}

async function serve(ctx: Context, lease: Lease, deps: HandlerDeps, gone: AbortSignal): Promise<void> {
  if (lease.verifyFirst) await lease.blob.whenFinal(gone);
  await serveBlob(ctx, lease.blob, {
    contentType: 'application/octet-stream',
    stallMs: deps.stallMs,
    firstPieceMs: deps.firstPieceMs,
    resumable: lease.isResumable(),
    ...(lease.cached ? { onBytes: deps.onCacheBytes } : {}),
  });
}

/** Aborted when the client goes away. */
function goneSignal(ctx: Context): AbortSignal {
  const gone = new AbortController();
  ctx.res.once('close', () => gone.abort(new CodedError('TIMEOUT', { message: 'client is gone' })));
  return gone.signal;
}

function tagQuery(ctx: Context): string {
  const query = new URLSearchParams();
  for (const key of ['n', 'last']) {
    const value = ctx.query[key];
    if (typeof value === 'string') query.set(key, value);
  }
  return query.toString();
}

function headOnly(digest: Digest, sizeBytes: number) {
  const unused = (): never => {
    throw new TypeError('HEAD reads no piece');
  };
  return { digest, sizeBytes, isFinal: true, readPiece: unused, whenFinal: unused, openReader: unused };
}
