import type { Cluster } from '@sepia/cluster/cluster';

/** Name of a blob whose sidecar was lost: no repository has it. Only mode none takes pushes. */
export function unknownName({
  upstreams,
}: Pick<Cluster, 'upstreams'>): { readonly upstream: string; readonly repository: string } | undefined {
  const source = upstreams.find(({ mode }) => mode === 'none');
  return source && { upstream: source.name, repository: 'sepia/unknown' };
}
