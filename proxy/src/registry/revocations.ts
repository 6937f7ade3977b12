import type Router from '@koa/router';
import { PROXY } from '@sepia/cluster/api/proxy';
import { REVOCATIONS_BODY, type Revocation } from '@sepia/cluster/api/revocation';
import { fits } from '@sepia/cluster/message';
import { serve } from '@sepia/http/router';
import { readJson } from '@sepia/http/signed';
import type { ManifestCache } from './core/manifest-cache.ts';

/** An origin revokes: what was deleted is forgotten here. */
export function revocationRoute(router: Router, cache: ManifestCache): void {
  serve(router, PROXY.revocations, async (ctx) => {
    const { revoked } = await readJson(ctx, PROXY.revocations.body.maxBytes, fits(REVOCATIONS_BODY));
    cache.revoke(revoked as Revocation[]);
    ctx.status = 204;
  });
}
