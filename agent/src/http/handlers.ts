import { isCoded } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import type { BlobName } from '@sepia/base/names/blob-name';
import { sendManifest } from '@sepia/face/manifest-answer';
import type { RegistryHandlers } from '@sepia/face/registry-app';
import { goneSignal } from '@sepia/http/client-gone';
import { asksToResume, resumeRefused, serveBlob, serveHead } from '@sepia/http/serve-blob';
import { queryValue } from '@sepia/http/signed';
import { OCI_INDEX } from '@sepia/oci/manifest';
import type { Context } from 'koa';
import type { BlobTable, Lease } from '../blobs/blob-table.ts';
import type { Links } from '../blobs/links.ts';
import { readSmall } from '../blobs/read-small.ts';
import { type LazyImages, MAX_CONFIG_BYTES } from '../lazy/lazy-images.ts';
import type { Manifests } from '../manifests/manifests.ts';
import { relink, renamed } from './core/relink.ts';

/** A stale attempt or a damaged start is tried again this often before any byte was sent. */
const MAX_TRIES = 3;

/** What containerd and its clients begin their `User-Agent` with. */
const CONTAINERD = 'containerd/';

interface HandlerDeps {
  readonly blobs: BlobTable;
  readonly manifests: Manifests;
  readonly links: Links;
  readonly lazy: Pick<LazyImages, 'note' | 'beforeBlob'>;
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
      const answer = await deps.manifests.get(target, route.reference, goneSignal(ctx));
      deps.lazy.note(target, answer);
      sendManifest(ctx, answer);
    },
    blob: async (ctx, target, route) => {
      const name = { ...target, digest: route.digest };
      await deps.links.require(name, goneSignal(ctx));
      if (ctx.method === 'HEAD') await head(ctx, name, deps);
      else {
        const gone = goneSignal(ctx);
        const config = (signal: AbortSignal): Promise<Buffer> =>
          readSmall(deps.blobs, name, MAX_CONFIG_BYTES, signal);
        const isRuntime = ctx.get('user-agent').startsWith(CONTAINERD);
        await deps.lazy.beforeBlob(name, config, { isRuntime, signal: gone });
        await get(ctx, name, deps).catch((error: unknown) => {
          const isLie = isCoded(error, 'UPSTREAM_LIES') && !ctx.headerSent;
          throw isLie && asksToResume(ctx, name.digest) ? resumeRefused(name.digest) : error;
        });
      }
    },
    tags: async (ctx, target, { name }) =>
      await passList(ctx, deps, {
        upstream: target.upstream,
        asked: `/v2/${target.repository}/tags/list`,
        own: `/v2/${name}/tags/list`,
        name,
        type: 'application/json; charset=utf-8',
      }),
    referrers: async (ctx, target, { name, digest }) =>
      await passList(ctx, deps, {
        upstream: target.upstream,
        asked: `/v2/${target.repository}/referrers/${digest}`,
        own: `/v2/${name}/referrers/${digest}`,
        type: OCI_INDEX,
      }),
    catalog: async (ctx, upstream) =>
      await passList(ctx, deps, {
        upstream,
        asked: '/v2/_catalog',
        own: '/v2/_catalog',
        type: 'application/json; charset=utf-8',
      }),
  };
}

/** Passes on a list that a proxy makes; the link to its next page leads back to this node. */
async function passList(
  ctx: Context,
  deps: HandlerDeps,
  list: {
    readonly upstream: string;
    readonly asked: string;
    readonly own: string;
    /** Of the repository in the list, as the client says it. */
    readonly name?: string;
    readonly type: string;
  },
): Promise<void> {
  const query = new URLSearchParams();
  for (const key of ['n', 'last', 'artifactType']) {
    const value = queryValue(ctx, key);
    if (value !== undefined) query.set(key, value);
  }
  const path = query.size === 0 ? list.asked : `${list.asked}?${query.toString()}`;
  const { bytes, headers } = await deps.manifests.list(list.upstream, path, goneSignal(ctx));
  const link = relink(firstOf(headers['link']), list.own, queryValue(ctx, 'ns'));
  if (link !== undefined) ctx.set('Link', link);
  const filters = firstOf(headers['oci-filters-applied']);
  if (filters !== undefined) ctx.set('OCI-Filters-Applied', filters);
  ctx.body = list.name === undefined ? bytes : renamed(bytes.toString('utf8'), list.name);
  ctx.set('Content-Type', list.type);
}

function firstOf(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? value[0] : value;
}

async function head(ctx: Context, name: BlobName, deps: HandlerDeps): Promise<void> {
  const sizeBytes = await deps.blobs.sizeBytes(name, goneSignal(ctx));
  serveHead(ctx, { digest: name.digest, sizeBytes }, { contentType: 'application/octet-stream' });
}

async function get(ctx: Context, name: BlobName, deps: HandlerDeps): Promise<void> {
  const gone = goneSignal(ctx);
  for (let tries = 1; ; tries++) {
    const lease = await deps.blobs.get(name, gone, ctx.get('range'));
    try {
      await serve(ctx, lease, deps, gone);
      return;
    } catch (error) {
      throwIfBug(error);
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
