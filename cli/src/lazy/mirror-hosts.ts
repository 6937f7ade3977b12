import { join } from 'node:path';
import { DOCKER_HUB_HOSTS } from '@sepia/base/names/upstream-name';
import { hostOf, hostsToml } from '../up/hints.ts';
import { type Change, textOf } from './changed-files.ts';
import { HOSTS_MARK } from './containerd-toml.ts';
import { type RegistryHosts, throughAgent } from './registry-hosts.ts';

/** An upstream, as a cluster document or `cluster.json` names it. */
interface Mirrored {
  readonly url?: string | null | undefined;
  readonly hosts: readonly string[];
}

const DOCKER_HUB = 'docker.io';

/**
 * Puts the agent in front of every registry that the cluster fronts: a `hosts.toml` each, where there is none. The registry
 * stays its `server`, so that pulls go on while the agent is away; not where images are lazy, for nobody would judge what comes
 * that way. What somebody else wrote is left alone, and named.
 */
export async function plannedMirrors(
  dir: string,
  { agent, isLazy }: { readonly agent: string; readonly isLazy: boolean },
  upstreams: readonly Mirrored[],
): Promise<RegistryHosts> {
  const changes: Change[] = [];
  const warnings: string[] = [];
  for (const { url, hosts } of upstreams) {
    if (url === undefined || url === null) continue;
    for (const name of namesOf(url, hosts)) {
      const path = join(dir, name, 'hosts.toml');
      const before = await textOf(path);
      const server = name === DOCKER_HUB ? 'https://registry-1.docker.io' : url;
      const after = `${HOSTS_MARK}\n${hostsToml(agent, isLazy ? agent : server).join('\n')}\n`;
      if (before === undefined) changes.push({ path, before, after });
      else if (throughAgent(before, agent).names === false)
        warnings.push(`${path}: is there already and does not name ${agent}: left as it is`);
    }
  }
  return { changes, warnings };
}

/** Names by which images of an upstream are pulled: Docker Hub's three are one to containerd. */
function namesOf(url: string, hosts: readonly string[]): string[] {
  const canonical = (host: string): string => (DOCKER_HUB_HOSTS.has(host) ? DOCKER_HUB : host);
  const isHost = (host: string): boolean => /[.:]/.test(host) || host === 'localhost';
  return [...new Set([hostOf(url), ...hosts].map((host) => canonical(host.toLowerCase())).filter(isHost))];
}
