import { firstAnswer } from '@sepia/base/async/ask-many';
import { CodedError } from '@sepia/base/errors';
import { ORIGIN_NAMES } from '@sepia/cluster/api/origin';
import { to } from '@sepia/cluster/api/route';
import { isDefinite } from '@sepia/cluster/core/answers';
import type { CatalogHandler } from '@sepia/face/registry-app';
import { goneSignal } from '@sepia/http/client-gone';
import { queryValue } from '@sepia/http/signed';
import { BESIDE_MISSES, whileAlive } from '../bodies/blob-source.ts';
import type { Origins } from '../cluster/origins.ts';
import { LIST_MS, SLOW_HEDGE_MS } from '../deadlines.ts';
import { nextLink } from './core/page-link.ts';
import { parseLast, parsePageSize } from './core/tag-page.ts';

/** Most repositories of one answer; without `n` a client gets as many and a link to the rest. */
const MAX_PAGE = 1_000;

/** GET of the repositories of an upstream that the cluster has content of. */
export function listCatalog(deps: { readonly origins: Origins }): CatalogHandler {
  return async (ctx, upstream) => {
    const n = Math.min(MAX_PAGE, parsePageSize(queryValue(ctx, 'n')));
    const last = parseLast(queryValue(ctx, 'last'));
    const call = to(ORIGIN_NAMES.catalog, { upstream, n, last });
    const signal = goneSignal(ctx);
    const ask = async (
      id: string,
      abort: AbortSignal,
    ): Promise<{ repositories: string[]; more: boolean }> => {
      const either = AbortSignal.any([abort, signal]);
      const run = (running: AbortSignal): Promise<{ repositories?: unknown; more?: unknown }> =>
        deps.origins.quick(id, LIST_MS, call, running);
      const page = await whileAlive(deps.origins, id, either, run, BESIDE_MISSES);
      if (!Array.isArray(page.repositories))
        throw new CodedError('PEER_HTTP', { message: `origin ${id} answered without repositories` });
      return { repositories: page.repositories as string[], more: page.more === true };
    };
    const { repositories, more } = await firstAnswer(deps.origins.tries(upstream), ask, {
      hedgeAfterMs: SLOW_HEDGE_MS,
      signal,
      isFinal: isDefinite,
    });
    const end = repositories.at(-1);
    if (more && end !== undefined)
      ctx.set('Link', nextLink('/v2/_catalog', { n: String(n), last: end, ns: queryValue(ctx, 'ns') }));
    ctx.body = { repositories };
  };
}
