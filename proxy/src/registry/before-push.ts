import { CodedError, isUpstreamFailure } from '@sepia/base/errors';
import type { Cluster } from '@sepia/cluster/cluster';
import type { RegistryHandler } from '@sepia/face/registry-app';
import type { RequestState } from '@sepia/http/app';

/**
 * Clients ask by HEAD what they need not push. Where pushes are taken while the registry behind is away (mode write-back), what
 * the cluster does not have is to be sent: 404 for who may push, who would give up at the 503 that everybody else gets.
 */
export function beforePush<T extends 'manifest' | 'blob'>(
  type: T,
  cluster: Pick<Cluster, 'upstream'>,
  read: RegistryHandler<T>,
): RegistryHandler<T> {
  return async (ctx, target, route) => {
    try {
      await read(ctx, target, route);
    } catch (error) {
      const isAsked = ctx.method === 'HEAD' && (ctx.state as RequestState).mayPush === true;
      if (!isAsked || !isUpstreamFailure(error) || cluster.upstream(target.upstream).mode !== 'write-back')
        throw error;
      throw new CodedError(type === 'manifest' ? 'MANIFEST_UNKNOWN' : 'BLOB_UNKNOWN', {
        message: 'the cluster does not have it, and the registry behind does not answer: it may be pushed',
        cause: error,
      });
    }
  };
}
