import type Router from '@koa/router';
import { CodedError } from '@sepia/base/errors';
import { REVOCATIONS_BODY, type Revocation } from '@sepia/cluster/api/revocation';
import { shardKey } from '@sepia/cluster/cluster';
import { routed } from '@sepia/http/router';
import { readJson } from '@sepia/http/signed';
import type { ManifestCache } from './core/manifest-cache.ts';

const MAX_BODY_BYTES = 4 * 1024 * 1024;

/** `POST /v1/revocations` of an origin: what was deleted is forgotten here. */
export function revocationRoute(router: Router, cache: ManifestCache): void {
  router.post('/v1/revocations', async (context) => {
    const ctx = routed(context, 'revocations');
    const { revoked } = await readJson(ctx, MAX_BODY_BYTES, (value) => {
      const found = REVOCATIONS_BODY.safeParse(value);
      if (found.success) return found.data;
      const [issue] = found.error.issues;
      throw new CodedError('REQUEST_INVALID', { message: `${issue?.path.join('.')}: ${issue?.message}` });
    });
    cache.revoke(
      (revoked as Revocation[]).map((one) => [shardKey(one.upstream, one.repository), one.digest] as const),
    );
    ctx.status = 204;
  });
}
