import { shardKey } from '@sepia/shared/cluster/cluster';
import { CodedError } from '@sepia/shared/errors';
import type { RequestState } from '@sepia/shared/http/app';
import { readJson } from '@sepia/shared/http/signed';
import { REVOCATIONS_BODY, type Revocation } from '@sepia/shared/wire/revocation';
import type { Context, Middleware } from 'koa';
import type { ManifestCache } from '../core/manifest-cache.ts';

const PATH = '/v1/revocations';
const MAX_BODY_BYTES = 4 * 1024 * 1024;

interface RevocationDeps {
  readonly cache: ManifestCache;
  /** Throws unless the call is signed with the cluster key. */
  readonly verify: (ctx: Context) => void;
}

/** `POST /v1/revocations` of an origin: what was deleted is forgotten here. Other paths go on. */
export function revocationRoute(deps: RevocationDeps): Middleware {
  return async (ctx, next) => {
    if (ctx.path !== PATH || ctx.method !== 'POST') return await next();
    (ctx.state as RequestState).route = 'revocations';
    deps.verify(ctx);
    const { revoked } = await readJson(ctx, MAX_BODY_BYTES, (value) => {
      const found = REVOCATIONS_BODY.safeParse(value);
      if (found.success) return found.data;
      const [issue] = found.error.issues;
      throw new CodedError('REQUEST_INVALID', { message: `${issue?.path.join('.')}: ${issue?.message}` });
    });
    deps.cache.revoke(
      (revoked as Revocation[]).map((one) => [shardKey(one.upstream, one.repository), one.digest] as const),
    );
    ctx.status = 204;
  };
}
