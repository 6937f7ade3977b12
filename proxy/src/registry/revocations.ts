import type Router from '@koa/router';
import { CodedError } from '@sepia/base/errors';
import { PROXY } from '@sepia/cluster/api/proxy';
import { REVOCATIONS_BODY, type Revocation } from '@sepia/cluster/api/revocation';
import { serve } from '@sepia/http/router';
import { readJson } from '@sepia/http/signed';
import type { ManifestCache } from './core/manifest-cache.ts';

/** An origin revokes: what was deleted is forgotten here. */
export function revocationRoute(router: Router, cache: ManifestCache): void {
  serve(router, PROXY.revocations, async (ctx) => {
    const { revoked } = await readJson(ctx, PROXY.revocations.body.maxBytes, (value) => {
      const found = REVOCATIONS_BODY.safeParse(value);
      if (found.success) return found.data;
      const [issue] = found.error.issues;
      throw new CodedError('REQUEST_INVALID', { message: `${issue?.path.join('.')}: ${issue?.message}` });
    });
    cache.revoke(revoked as Revocation[]);
    ctx.status = 204;
  });
}
