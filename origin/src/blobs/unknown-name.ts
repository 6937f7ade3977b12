import type { Cluster } from '@sepia/cluster/cluster';
import { takesPushes } from '@sepia/cluster/write-back';
import type { Provenance } from '@sepia/store/sidecar';

/** One of the names that a blob came under; what waits for a registry goes before the others. */
export function oneNameOf(
  cluster: Pick<Cluster, 'upstreams'>,
  provenance: readonly Provenance[],
): Provenance | undefined {
  const waits = (name: string): boolean =>
    cluster.upstreams.some((one) => one.name === name && one.mode === 'write-back');
  return provenance.find(({ upstream }) => waits(upstream)) ?? provenance[0] ?? unknownName(cluster);
}

/** Name of a blob whose sidecar was lost: no repository has it. One that takes pushes is meant. */
function unknownName({
  upstreams,
}: Pick<Cluster, 'upstreams'>): { readonly upstream: string; readonly repository: string } | undefined {
  const source =
    upstreams.find(({ mode }) => mode === 'none') ?? upstreams.find(({ mode }) => takesPushes(mode));
  return source && { upstream: source.name, repository: 'sepia/unknown' };
}
