import type { Cluster } from '@sepia/cluster/cluster';
import { takesPushes } from '@sepia/cluster/write-back';

/** Name of a blob whose sidecar was lost: no repository has it. One that takes pushes is meant. */
export function unknownName({
  upstreams,
}: Pick<Cluster, 'upstreams'>): { readonly upstream: string; readonly repository: string } | undefined {
  const source =
    upstreams.find(({ mode }) => mode === 'none') ?? upstreams.find(({ mode }) => takesPushes(mode));
  return source && { upstream: source.name, repository: 'sepia/unknown' };
}
