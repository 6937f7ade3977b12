import type { ClusterFile } from '../up/cluster-file.ts';
import { hostOf, hostsToml, hostsTomlPath } from '../up/hints.ts';

/** What a newcomer may try while the demo's cluster goes on running. */
export function demoHints(cluster: ClusterFile | undefined, clusterJson: string, image: string): string {
  const agent = cluster?.agents.at(-1);
  const proxy = cluster?.proxies[0];
  if (cluster === undefined || agent === undefined || proxy === undefined) return '';
  const [repository, tag] = image.split(':');
  return [
    '',
    'The cluster goes on running. In another terminal:',
    '',
    `  see it          open   ${proxy.url}/ui/`,
    `                  ./sepia status --cluster ${clusterJson}`,
    `  pull once more  ./sepia pull ${image} --agent ${agent.url}`,
    `  plain HTTP      curl -s ${agent.url}/v2/${repository}/manifests/${tag}`,
    `  docker          docker pull ${hostOf(agent.url)}/${image}`,
    `  push your own   docker tag IMAGE ${hostOf(proxy.url)}/my/app:v1 && docker push ${hostOf(proxy.url)}/my/app:v1`,
    `  containerd      in ${hostsTomlPath(cluster.upstreams[0]!)}`,
    ...hostsToml(agent.url, null).map((line) => `                    ${line}`),
    '',
    '  your registry   ./sepia up --upstream harbor=https://harbor.example.com',
    '',
    'Ctrl-C stops all of it and removes its folder.',
    '',
  ].join('\n');
}
