import type { Test } from 'tap';
import { type ClusterOptions, startCluster, type TestCluster } from './cluster.ts';
import { TestUpstream } from './upstream.ts';

/** Origins, and the registry that they read through. */
export interface PullThrough {
  readonly upstream: TestUpstream;
  readonly c: TestCluster;
}

/** So many origins before a registry: upstream `hub` of mode pull-through, with these keys beside. */
export async function startPullThrough(
  t: Test,
  origins: number,
  keys: object = {},
  options: Partial<ClusterOptions> = {},
): Promise<PullThrough> {
  const upstream = await TestUpstream.start(t);
  const hub = { name: 'hub', url: upstream.url, mode: 'pull-through', ...keys };
  return { upstream, c: await startCluster(t, { ...options, origins, upstreams: [hub] }) };
}
