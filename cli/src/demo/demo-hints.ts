import type { ClusterFile } from '../up/cluster-file.ts';
import { hostOf } from '../up/hints.ts';

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
    `  see it      open ${proxy.url}/ui/`,
    `              ./sepia status --cluster ${clusterJson}`,
    `  pull again  ./sepia pull ${hostOf(agent.url)}/${image}`,
    `  docker      docker pull ${hostOf(agent.url)}/${image}`,
    `  containerd  crictl pull ${hostOf(agent.url)}/${image}`,
    `  plain HTTP  curl -s ${agent.url}/v2/${repository}/manifests/${tag}`,
    `  push yours  docker tag IMAGE ${hostOf(proxy.url)}/my/app:v1`,
    `              docker push ${hostOf(proxy.url)}/my/app:v1`,
    `  a registry  ./sepia up --upstream harbor=https://harbor.example.com`,
    '',
    'Ctrl-C stops all of it and removes its folder.',
    '',
  ].join('\n');
}
