import type Router from '@koa/router';
import { parseDigest } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { parseRepositoryName } from '@sepia/base/names/repository';
import { ORIGIN_BLOBS } from '@sepia/cluster/api/origin';
import { takesPushes } from '@sepia/cluster/write-back';
import { goneSignal } from '@sepia/http/client-gone';
import { serve } from '@sepia/http/router';
import { bodyOf, queryValue } from '@sepia/http/signed';
import { parseChunkRange } from '@sepia/oci/chunk-range';
import type { DiskRoom } from '@sepia/store/disk-room';
import type { Context } from 'koa';
import type { Kept } from '../blobs/kept.ts';
import type { UploadBody, UploadName, Uploads } from '../blobs/uploads.ts';
import { readOnly } from '../blobs/uploads.ts';
import type { ContentGuard } from '../fence/content-guard.ts';
import type { Links } from '../records/links.ts';
import type { Quotas } from '../records/quotas.ts';
import type { Upstreams } from '../upstream/upstreams.ts';
import { blobNameOf, clientOf, contentLength, numberOf, repositoryOf, required } from './request.ts';

export interface UploadRouteDeps {
  readonly uploads: Uploads;
  readonly links: Links;
  readonly keeps: Pick<Kept, 'own' | 'byOwners'>;
  readonly quotas: Pick<Quotas, 'check'>;
  readonly upstreams: Upstreams;
  readonly room: Pick<DiskRoom, 'check'>;
  readonly guard: Pick<ContentGuard, 'using'>;
}

/** Upload sessions and mounts of `/v1`. */
export function uploadRoutes(router: Router, deps: UploadRouteDeps): void {
  const { uploads } = deps;
  serve(router, ORIGIN_BLOBS.uploadBegin, async (ctx) => {
    const { upstream, repository } = repositoryOf(ctx);
    const roomBytes = numberOf(ctx, 'room', Number.MAX_SAFE_INTEGER) ?? 0;
    ctx.body = { uploadId: await uploads.begin(upstream, repository, roomBytes, clientOf(ctx)) };
    ctx.status = 202;
  });
  serve(router, ORIGIN_BLOBS.room, (ctx) => {
    deps.room.check(numberOf(ctx, 'bytes', Number.MAX_SAFE_INTEGER) ?? 0);
    uploads.checkPlace(clientOf(ctx));
    ctx.status = 204;
  });
  serve(router, ORIGIN_BLOBS.uploadStatus, (ctx) => {
    ctx.body = { offset: uploads.offset(uploadOf(ctx)) };
  });
  serve(router, ORIGIN_BLOBS.uploadAppend, async (ctx) => {
    ctx.body = { offset: await uploads.append(uploadOf(ctx), uploadBody(ctx)) };
    ctx.status = 202;
  });
  serve(router, ORIGIN_BLOBS.uploadFinish, async (ctx) => {
    const digest = parseDigest(required(ctx, 'digest'));
    await uploads.finish(uploadOf(ctx), uploadBody(ctx), digest);
    ctx.set('Docker-Content-Digest', digest);
    ctx.status = 201;
    ctx.body = '';
  });
  serve(router, ORIGIN_BLOBS.uploadCancel, async (ctx) => {
    await uploads.cancel(uploadOf(ctx));
    ctx.status = 204;
  });
  serve(router, ORIGIN_BLOBS.keep, async (ctx) => {
    ctx.body = { kept: await deps.keeps.own(blobNameOf(ctx), queryValue(ctx, 'mount') === '1') };
  });
  serve(router, ORIGIN_BLOBS.mount, async (ctx) => await mount(deps, ctx));
}

async function mount(deps: UploadRouteDeps, ctx: Context): Promise<void> {
  const { upstream, repository } = repositoryOf(ctx);
  const from = parseRepositoryName(required(ctx, 'from'));
  const digest = parseDigest(required(ctx, 'digest'));
  const { mode } = deps.upstreams.get(upstream);
  if (!takesPushes(mode)) throw readOnly(upstream, mode);
  const gone = goneSignal(ctx);
  await deps.guard.using([{ upstream, repository, digest }], async () => {
    // What was remembered of a link may be older than the collection of its bytes.
    const link = await deps.links.find({ upstream, repository: from, digest }, { fresh: true });
    // Other links may name anything, and what may go before the registry behind has the mount is sent by the client.
    const isKept =
      mode === 'none' ||
      (link?.pushed === true &&
        (await deps.keeps.byOwners({ upstream, repository, digest }, true)) === 'quorum');
    if (link === undefined || !isKept)
      throw new CodedError('BLOB_UNKNOWN', { detail: { digest, repository: from } });
    await deps.quotas.check({ upstream, repository, digest }, link.sizeBytes ?? 0);
    // Another origin was sooner, and a delete may have taken its link since.
    gone.throwIfAborted();
    await deps.links.write([{ ...link, repository, pushed: mode === 'none' ? undefined : true }]);
  });
  ctx.set('Docker-Content-Digest', digest);
  ctx.status = 201;
  ctx.body = '';
}

function uploadOf(ctx: Context): UploadName {
  const id = String((ctx as unknown as { params: Record<string, string> }).params['id'] ?? '');
  return { id, ...repositoryOf(ctx) };
}

function uploadBody(ctx: Context): UploadBody {
  const header = ctx.get('content-range');
  const length = contentLength(ctx);
  const range = header === '' ? undefined : parseChunkRange(header, length);
  return { bytes: bodyOf(ctx), length: length ?? 0, range };
}
