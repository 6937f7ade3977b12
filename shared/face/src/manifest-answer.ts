import type { Digest } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { H_STALE } from '@sepia/cluster/api/headers';
import { clientHas } from '@sepia/oci/etag';
import { isManifestType } from '@sepia/oci/manifest';
import type { Context } from 'koa';

/** What an answer about a manifest needs. `bytes` may be absent for HEAD. */
export interface ManifestAnswer {
  readonly digest: Digest;
  readonly mediaType: string;
  readonly sizeBytes: number;
  readonly bytes?: Uint8Array;
  /** Age in seconds of a tag that the upstream does not confirm at present. */
  readonly staleSeconds?: number;
}

/** Answers GET and HEAD of a manifest as distribution does: exact type and length, digest, ETag, 304. */
export function sendManifest(ctx: Context, manifest: ManifestAnswer): void {
  const etag = `"${manifest.digest}"`;
  ctx.set('Docker-Content-Digest', manifest.digest);
  ctx.set('ETag', etag);
  const mediaType = typeFor(ctx, manifest.mediaType);
  if (manifest.staleSeconds !== undefined) ctx.set(H_STALE, String(manifest.staleSeconds));
  if (clientHas(ctx.get('if-none-match'), etag)) {
    ctx.status = 304;
    return;
  }
  if (ctx.method !== 'HEAD') {
    if (manifest.bytes === undefined)
      throw new CodedError('INTERNAL', { message: 'manifest answer without bytes' });
    ctx.status = 200;
    ctx.set('Content-Type', mediaType);
    ctx.body = Buffer.from(manifest.bytes.buffer, manifest.bytes.byteOffset, manifest.bytes.byteLength);
    return;
  }
  // Koa drops Content-Length of an answer without a body, so HEAD is written by hand.
  ctx.set('Content-Type', mediaType);
  ctx.set('Content-Length', String(manifest.sizeBytes));
  ctx.status = 200;
  ctx.set('Content-Length', String(manifest.sizeBytes));
  ctx.respond = false;
  ctx.res.statusCode = 200;
  ctx.res.end();
}

/**
 * Registry clients get the type exactly as it was pushed. A browser gets it only where it is a manifest's: anything else
 * may be markup that somebody pushed, so it is bytes to it.
 */
function typeFor(ctx: Context, mediaType: string): string {
  if (isManifestType(mediaType)) return mediaType;
  ctx.vary('Accept');
  ctx.vary('Sec-Fetch-Mode');
  return isBrowser(ctx) ? 'application/octet-stream' : mediaType;
}

function isBrowser({ req: { headers } }: Context): boolean {
  const asksForMarkup = /\b(?:text\/html|application\/xhtml\+xml|text\/css|image\/)/i.test(
    headers.accept ?? '',
  );
  return asksForMarkup || Object.keys(headers).some((name) => name.startsWith('sec-fetch-'));
}
