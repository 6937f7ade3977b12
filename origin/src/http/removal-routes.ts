import type Router from '@koa/router';
import { type Digest, isDigest } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { isTag, type Tag } from '@sepia/base/names/repository';
import { ORIGIN_NAMES } from '@sepia/cluster/api/origin';
import { goneSignal } from '@sepia/http/client-gone';
import { serve } from '@sepia/http/router';
import { readJson } from '@sepia/http/signed';
import { MAX_DROPPED, type Removals } from '../removal/removals.ts';
import { repositoryOf } from './request.ts';

/** What an operator takes away. */
export function removalRoutes(router: Router, deps: { readonly removals: Removals }): void {
  serve(router, ORIGIN_NAMES.removal, async (ctx) => {
    const what = await readJson(ctx, ORIGIN_NAMES.removal.body.maxBytes, whatOf);
    ctx.body = await deps.removals.remove(repositoryOf(ctx), what, goneSignal(ctx));
  });
  serve(router, ORIGIN_NAMES.removalDrop, async (ctx) => {
    const digests = await readJson(ctx, ORIGIN_NAMES.removalDrop.body.maxBytes, digestsOf);
    ctx.body = { dropped: await deps.removals.drop(repositoryOf(ctx), digests) };
  });
}

function whatOf(value: unknown): { tag?: Tag; digest?: Digest } {
  const { tag, digest } = (value ?? {}) as { tag?: unknown; digest?: unknown };
  if (tag !== undefined && digest !== undefined) throw invalid('name a tag or a digest, not both');
  if (tag !== undefined) {
    if (typeof tag === 'string' && isTag(tag)) return { tag };
    throw invalid('tag: is not a tag');
  }
  if (digest === undefined) return {};
  if (typeof digest === 'string' && isDigest(digest)) return { digest };
  throw invalid('digest: is not a digest');
}

function digestsOf(value: unknown): Digest[] {
  const { digests } = (value ?? {}) as { digests?: unknown };
  const isList = Array.isArray(digests) && digests.length <= MAX_DROPPED;
  if (isList && digests.every((one) => typeof one === 'string' && isDigest(one))) return digests as Digest[];
  throw invalid(`digests: is not a list of at most ${MAX_DROPPED} digests`);
}

function invalid(message: string): CodedError {
  return new CodedError('REQUEST_INVALID', { message });
}
