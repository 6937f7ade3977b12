import { dirname, join } from 'node:path';
import type { ClusterFile } from './cluster-file.ts';
import { DEFAULT_AGENT } from './plan.ts';

/** What a user can do with a cluster that is ready. `usualJson`: the `cluster.json` that commands read without being told. */
export function whatNext(cluster: ClusterFile, clusterJson: string, usualJson: string): string {
  const { origins, trackers, proxies, agents, upstreams, snapshotters } = cluster;
  const [agent, proxy, first] = [agents[0], proxies[0]!, upstreams[0]!];
  const at = clusterJson === usualJson ? '' : ` --cluster ${clusterJson}`;
  const lines = [
    '',
    `The cluster is ready: ${origins.length} origins, ${trackers.length} trackers, ${proxies.length} proxies, ${agents.length} agents.`,
    '',
    ...hint('look', [`${proxy.url}/ui/`, `./sepia status${at}`]),
  ];
  if (first.mode !== 'pull-through') {
    const image = `${hostOf(proxy.url)}/demo/app:v1`;
    lines.push(...hint('push', [`docker push ${image}`, `./sepia push IMAGE.tar ${image}`]));
  }
  if (agent !== undefined) {
    const image = `${hostOf(agent.url)}/demo/app:v1`;
    lines.push(...hint('pull', [`docker pull ${image}`, `crictl pull ${image}`, `./sepia pull ${image}`]));
    if (first.url !== null) {
      const to = agent.url === DEFAULT_AGENT ? '' : ` --agent ${agent.url}`;
      lines.push(
        ...hint('mirror', [
          `./sepia configure containerd${to}${at}`,
          `(puts the agent before ${hostOf(first.url)}; see it with --dry-run)`,
        ]),
      );
    }
  }
  const holders = snapshotters.map(({ name }) =>
    join(dirname(clusterJson), 'members', name, 'data/holder.pid'),
  );
  if (holders.length === 0) lines.push('', 'Ctrl-C stops all of it.');
  else
    lines.push(
      '',
      'Ctrl-C stops all but the snapshotter, so that containers go on; that one:',
      ...holders.map((file) => `  kill $(cat ${file})`),
    );
  return lines.join('\n');
}

/** A word for what to do, and lines that do it. */
function hint(word: string, lines: readonly string[]): string[] {
  return lines.map((line, at) => `  ${(at === 0 ? word : '').padEnd(9)} ${line}`);
}

/** Host and port of a URL. */
export function hostOf(url: string): string {
  return new URL(url).host;
}
