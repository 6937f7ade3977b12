import type { Digest } from '@sepia/base/digest';
import { LatestMap } from '@sepia/base/latest-map';
import type { RepositoryName, Tag } from '@sepia/base/names/repository';
import type { Cluster } from '@sepia/cluster/cluster';
import { writeBackOf } from '@sepia/cluster/write-back';
import { BEHIND_MS, BEHIND_REST_MS } from '../deadlines/upstreams.ts';
import { isPassing, upstreamError } from './upstream-failure.ts';
import type { Upstreams } from './upstreams.ts';

const MAX_UPSTREAMS = 1_000;

interface RegistryBehindDeps {
  readonly cluster: Pick<Cluster, 'upstream'>;
  readonly upstreams: Pick<Upstreams, 'client'>;
  readonly nowMs: () => number;
}

/** Where a tag points at the registry behind at the moment of a push: what later tells a conflict from what the pusher saw. */
export class RegistryBehind {
  readonly #deps: RegistryBehindDeps;
  readonly #silentUntilMs = new LatestMap<string, number>(MAX_UPSTREAMS);

  constructor(deps: RegistryBehindDeps) {
    this.#deps = deps;
  }

  /** Null where it has none; undefined where it is not asked (the push wins anyway), or does not answer. */
  async look({
    upstream,
    repository,
    tag,
  }: {
    readonly upstream: string;
    readonly repository: RepositoryName;
    readonly tag: Tag;
  }): Promise<Digest | null | undefined> {
    const { cluster, upstreams, nowMs } = this.#deps;
    const writeBack = writeBackOf(cluster.upstream(upstream));
    if (writeBack === undefined || writeBack['on-conflict'] === 'ours') return undefined;
    if ((this.#silentUntilMs.get(upstream) ?? 0) > nowMs()) return undefined;
    const query = { repository, reference: { kind: 'tag', tag } } as const;
    try {
      return (await upstreams.client(upstream)!.headManifest(query, AbortSignal.timeout(BEHIND_MS))).digest;
    } catch (thrown) {
      const error = upstreamError(thrown, upstream);
      if (error.code === 'MANIFEST_UNKNOWN' || error.code === 'REPOSITORY_UNKNOWN') return null;
      if (error.code === 'INTERNAL') throw error;
      if (isPassing(error)) this.#silentUntilMs.set(upstream, nowMs() + BEHIND_REST_MS);
      return undefined;
    }
  }
}
