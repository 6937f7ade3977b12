import type { ClusterFile } from './cluster-file.ts';

/** What a user can do with a cluster that is ready. */
export function whatNext(cluster: ClusterFile, clusterJson: string): string {
  const agent = cluster.agents[0];
  const proxy = cluster.proxies[0]!;
  const first = cluster.upstreams[0]!;
  const lines = [
    '',
    `The cluster is ready: ${cluster.origins.length} origins, ${cluster.trackers.length} trackers, ${cluster.proxies.length} proxies, ${cluster.agents.length} agents.`,
    '',
    `  look      ${proxy.url}/ui/    and  ./sepia status --cluster ${clusterJson}`,
  ];
  if (first.mode !== 'pull-through')
    lines.push(
      `  push      ./sepia push IMAGE.tar demo/app:v1 --proxy ${proxy.url}    or  docker push ${hostOf(proxy.url)}/demo/app:v1`,
    );
  if (agent !== undefined) {
    lines.push(
      `  pull      docker pull ${hostOf(agent.url)}/demo/app:v1    or  ./sepia pull demo/app:v1 --agent ${agent.url}`,
    );
    lines.push(
      `  mirror    containerd: ${hostsTomlPath(first)}`,
      ...hostsToml(agent.url, cluster.snapshotters.length > 0 ? agent.url : first.url).map(
        (line) => `              ${line}`,
      ),
    );
  }
  lines.push('', 'Ctrl-C stops all of it.');
  return lines.join('\n');
}

/** The lines of a containerd `hosts.toml` that puts an agent in front of a registry. */
export function hostsToml(agentUrl: string, upstreamUrl: string | null): string[] {
  const server = upstreamUrl === null ? [] : [`server = "${upstreamUrl}"`];
  return [...server, `[host."${agentUrl}"]`, '  capabilities = ["pull", "resolve"]'];
}

export function hostsTomlPath(upstream: { readonly name: string; readonly url: string | null }): string {
  return `/etc/containerd/certs.d/${upstream.url === null ? upstream.name : hostOf(upstream.url)}/hosts.toml`;
}

export function hostOf(url: string): string {
  return new URL(url).host;
}
