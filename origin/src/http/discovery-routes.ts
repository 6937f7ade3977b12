import type Router from '@koa/router';
import { parseDigest } from '@sepia/base/digest';
import { ORIGIN_BLOBS, ORIGIN_NAMES, ORIGIN_RECORDS } from '@sepia/cluster/api/origin';
import { goneSignal } from '@sepia/http/client-gone';
import { serve } from '@sepia/http/router';
import { queryValue } from '@sepia/http/signed';
import { parseReference } from '@sepia/oci/route';
import { TAG_LIST_KEEP_MS } from '../deadlines/upstreams.ts';
import { type Catalog, MAX_CATALOG_PAGE } from '../records/catalog.ts';
import { RecentTagLists } from '../records/recent-tag-lists.ts';
import type { Referrers } from '../records/referrers.ts';
import { MAX_TAG_STATES, type TagIndex } from '../records/tag-index.ts';
import { listTags, MAX_UPSTREAM_TAGS } from '../records/tag-lists.ts';
import type { Deletes } from '../removal/deletes.ts';
import type { Upstreams } from '../upstream/upstreams.ts';
import { blobNameOf, changeOf, numberOf, repositoryOf, required } from './request.ts';

interface DiscoveryRouteDeps {
  readonly catalog: Catalog;
  readonly deletes: Deletes;
  readonly referrers: Referrers;
  readonly tagIndex: TagIndex;
  readonly upstreams: Upstreams;
}

/** Lists of tags, referrers and repositories of `/v1`, and deletes. */
export function discoveryRoutes(router: Router, deps: DiscoveryRouteDeps): void {
  const recent = new RecentTagLists({ keepMs: TAG_LIST_KEEP_MS, maxTags: MAX_UPSTREAM_TAGS });
  serve(router, ORIGIN_NAMES.tags, async (ctx) => {
    const n = numberOf(ctx, 'n', Number.MAX_SAFE_INTEGER);
    const page = { n, last: queryValue(ctx, 'last') };
    ctx.body = { tags: await listTags({ ...deps, recent }, repositoryOf(ctx), page, goneSignal(ctx)) };
  });
  serve(router, ORIGIN_RECORDS.taglist, async (ctx) => {
    const limit = Math.max(1, numberOf(ctx, 'limit', MAX_TAG_STATES) ?? MAX_TAG_STATES);
    ctx.body = await deps.tagIndex.ownPage(repositoryOf(ctx), { after: queryValue(ctx, 'after'), limit });
  });
  serve(router, ORIGIN_NAMES.referrers, async (ctx) => {
    const last = queryValue(ctx, 'last');
    ctx.body = await deps.referrers.list(
      { ...repositoryOf(ctx), digest: parseDigest(required(ctx, 'digest')) },
      {
        artifactType: queryValue(ctx, 'artifactType'),
        last: last === undefined ? undefined : parseDigest(last),
      },
    );
  });
  serve(router, ORIGIN_NAMES.catalog, async (ctx) => {
    const upstream = required(ctx, 'upstream');
    deps.upstreams.get(upstream);
    const n = numberOf(ctx, 'n', MAX_CATALOG_PAGE) ?? MAX_CATALOG_PAGE;
    ctx.body = await deps.catalog.list(upstream, { n, last: queryValue(ctx, 'last') });
  });
  serve(router, ORIGIN_NAMES.repositories, async (ctx) => {
    if (queryValue(ctx, 'repository') !== undefined) {
      ctx.body = { known: await deps.catalog.hasOwn(repositoryOf(ctx)) };
      return;
    }
    const limit = Math.max(1, numberOf(ctx, 'limit', MAX_CATALOG_PAGE + 1) ?? MAX_CATALOG_PAGE);
    const after = queryValue(ctx, 'after');
    ctx.body = await deps.catalog.ownPage(required(ctx, 'upstream'), { after, limit });
  });
  serve(router, ORIGIN_NAMES.manifestDelete, async (ctx) => {
    const name = repositoryOf(ctx);
    const reference = parseReference(required(ctx, 'reference'));
    const asked = { change: changeOf(ctx), signal: goneSignal(ctx) };
    if (reference.kind === 'tag') await deps.deletes.tag({ ...name, tag: reference.tag }, asked);
    else await deps.deletes.manifest({ ...name, digest: reference.digest }, false, asked);
    ctx.status = 204;
  });
  serve(router, ORIGIN_BLOBS.blobDelete, async (ctx) => {
    await deps.deletes.blob(blobNameOf(ctx), false, { signal: goneSignal(ctx) });
    ctx.status = 204;
  });
}
