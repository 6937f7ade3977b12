import { firstAnswer } from '@sepia/base/async/ask-many';
import { CodedError } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { ORIGIN_NAMES } from '@sepia/cluster/api/origin';
import { to } from '@sepia/cluster/api/route';
import { shardKey } from '@sepia/cluster/cluster';
import { isDefinite } from '@sepia/cluster/core/answers';
import type { RegistryHandler } from '@sepia/face/registry-app';
import { type InternalResponse, readLimited } from '@sepia/http/client';
import { goneSignal } from '@sepia/http/client-gone';
import { queryValue } from '@sepia/http/signed';
import { OCI_INDEX } from '@sepia/oci/manifest';
import { BESIDE_MISSES, whileAlive } from '../bodies/blob-source.ts';
import type { Origins } from '../cluster/origins.ts';
import { REFERRERS_MS, SLOW_HEDGE_MS } from '../deadlines.ts';
import { nextLink } from './core/page-link.ts';

/** A page has about 1 MiB, or one descriptor with as many annotations as a manifest can have. */
const MAX_PAGE_BYTES = 16 * 1024 * 1024;
const MAX_TYPE_CHARS = 255;

/** GET of what names a manifest as its subject, filtered by `artifactType`: an OCI index, in order of digests. */
export function listReferrers(deps: { readonly origins: Origins }): RegistryHandler<'referrers'> {
  return async (ctx, target, { name, digest }) => {
    // A media type has no blank: where one stands, the client left the `+` of `…+json` unescaped.
    const artifactType = queryValue(ctx, 'artifactType')?.replaceAll(' ', '+');
    const last = queryValue(ctx, 'last');
    if ((artifactType ?? '').length > MAX_TYPE_CHARS)
      throw new CodedError('REQUEST_INVALID', { message: 'artifactType is too long for a media type' });
    const call = to(ORIGIN_NAMES.referrers, { ...target, digest, artifactType, last });
    const signal = goneSignal(ctx);
    const ask = async (id: string, abort: AbortSignal): Promise<{ manifests: unknown[]; next?: string }> => {
      const either = AbortSignal.any([abort, signal]);
      const run = (running: AbortSignal): Promise<InternalResponse> =>
        deps.origins.call(id, { ...call, headersTimeoutMs: REFERRERS_MS, signal: running });
      const answer = await whileAlive(deps.origins, id, either, run, BESIDE_MISSES);
      return pageOf(await readLimited(answer.body, MAX_PAGE_BYTES, id), id);
    };
    const tries = deps.origins.tries(shardKey(target.upstream, target.repository));
    const { manifests, next } = await firstAnswer(tries, ask, {
      hedgeAfterMs: SLOW_HEDGE_MS,
      signal,
      isFinal: isDefinite,
    });
    if (artifactType !== undefined) ctx.set('OCI-Filters-Applied', 'artifactType');
    if (next !== undefined) {
      const path = `/v2/${name}/referrers/${digest}`;
      ctx.set('Link', nextLink(path, { artifactType, last: next, ns: queryValue(ctx, 'ns') }));
    }
    ctx.body = JSON.stringify({ schemaVersion: 2, mediaType: OCI_INDEX, manifests });
    ctx.set('Content-Type', OCI_INDEX);
  };
}

function pageOf(bytes: Buffer, id: string): { manifests: unknown[]; next?: string } {
  let value: { manifests?: unknown; next?: unknown } | null;
  try {
    value = JSON.parse(bytes.toString('utf8')) as typeof value;
  } catch (cause) {
    throwIfBug(cause);
    throw new CodedError('PEER_HTTP', { message: `origin ${id} answered with bad JSON`, cause });
  }
  const { manifests, next } = value ?? {};
  if (!Array.isArray(manifests))
    throw new CodedError('PEER_HTTP', { message: `origin ${id} answered without referrers` });
  return typeof next === 'string' ? { manifests, next } : { manifests };
}
