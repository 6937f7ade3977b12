import type { Context } from 'koa';
import type { CallVerifier } from '../../http/sign.ts';
import { claimsSigned, verifyRequest } from '../../http/signed.ts';
import { H_UPSTREAM } from '../../wire/headers.ts';

/**
 * For `createRegistryApp`'s `member`: checks requests that claim to come from a member and returns the upstream
 * that they name in `Sepia-Upstream`, if any. Unsigned requests are ordinary clients: undefined, the header is
 * ignored. The returned function throws `SIGNATURE_INVALID`.
 */
export function memberUpstream(
  verifier: CallVerifier,
  nowMs: () => number,
): (ctx: Context) => string | undefined {
  return (ctx) => {
    if (!claimsSigned(ctx)) return undefined;
    verifyRequest(ctx, verifier, nowMs());
    const upstream = ctx.get(H_UPSTREAM);
    return upstream === '' ? undefined : upstream;
  };
}
