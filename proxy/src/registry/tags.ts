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
import { BESIDE_MISSES, whileAlive } from '../bodies/blob-source.ts';
import type { Origins } from '../cluster/origins.ts';
import { LIST_MS, SLOW_HEDGE_MS } from '../deadlines.ts';
import { parseLast, parsePageSize, tagPage } from './core/tag-page.ts';

const MAX_LIST_BYTES = 32 * 1024 * 1024;

/** GET tags/list with `n` and `last`. */
export function listTags(deps: { readonly origins: Origins }): RegistryHandler<'tags'> {
  return async (ctx, target, { name }) => {
    const n = parsePageSize(queryValue(ctx, 'n'));
    const last = parseLast(queryValue(ctx, 'last'));
    const call = to(ORIGIN_NAMES.tags, { ...target, n: n + 1, last });
    const signal = goneSignal(ctx);
    const ask = async (id: string, abort: AbortSignal): Promise<string[]> => {
      const either = AbortSignal.any([abort, signal]);
      const run = (running: AbortSignal): Promise<InternalResponse> =>
        deps.origins.call(id, { ...call, headersTimeoutMs: LIST_MS, signal: running });
      const answer = await whileAlive(deps.origins, id, either, run, BESIDE_MISSES);
      return tagsOf(await readLimited(answer.body, MAX_LIST_BYTES, id), id);
    };
    const tries = deps.origins.tries(shardKey(target.upstream, target.repository));
    const tags = await firstAnswer(tries, ask, {
      hedgeAfterMs: SLOW_HEDGE_MS,
      signal,
      isFinal: isDefinite,
    });
    const { tags: shown, link } = tagPage(tags, n, name, queryValue(ctx, 'ns'));
    if (link !== undefined) ctx.set('Link', link);
    ctx.body = { name, tags: shown };
  };
}

function tagsOf(bytes: Buffer, id: string): string[] {
  try {
    const { tags } = (JSON.parse(bytes.toString('utf8')) ?? {}) as { tags?: unknown };
    if (Array.isArray(tags) && tags.every((tag) => typeof tag === 'string')) return tags;
  } catch (cause) {
    throwIfBug(cause);
    throw new CodedError('PEER_HTTP', { message: `origin ${id} answered with bad JSON`, cause });
  }
  throw new CodedError('PEER_HTTP', { message: `origin ${id} answered without tags` });
}
