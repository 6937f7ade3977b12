import { dirname, join, resolve } from 'node:path';
import { DOCKER_HUB_HOSTS } from '@sepia/base/names/upstream-name';
import { hostOf } from '../up/hints.ts';
import { type Change, textOf } from './changed-files.ts';
import { HOSTS_MARK } from './containerd-toml.ts';
import { EVERY_OTHER, namesIn, type RegistryHosts, throughAgent } from './registry-hosts.ts';

/** An upstream, as a cluster document or `cluster.json` names it. */
interface Mirrored {
  readonly url?: string | null | undefined;
  readonly hosts: readonly string[];
}

const DOCKER_HUB = 'docker.io';

/**
 * Puts the agent in front of every registry that the cluster fronts: a `hosts.toml` each, where there is none. The registry
 * stays its `server`, so that pulls go on while the agent is away; not where images are lazy, for nobody would judge what comes
 * that way. Certificates for it that lie in its folder are named then, for beside a `hosts.toml` containerd reads no others.
 * What somebody else wrote is left alone, and named. `dirs`: containerd's `config_path`, the first of which is written to.
 */
export async function plannedMirrors(
  dirs: readonly [string, ...string[]],
  { agent, isLazy }: { readonly agent: string; readonly isLazy: boolean },
  upstreams: readonly Mirrored[],
): Promise<RegistryHosts> {
  const changes: Change[] = [];
  const warnings: string[] = [];
  for (const { url, hosts } of upstreams) {
    if (url === undefined || url === null) continue;
    for (const name of namesOf(url, hosts)) {
      const folder = await folderOf(dirs, name);
      const there = folder === undefined ? undefined : join(folder, 'hosts.toml');
      const before = there === undefined ? undefined : await textOf(there);
      if (before !== undefined) {
        if (throughAgent(before, agent).names === false)
          warnings.push(`${there}: is there already and does not name ${agent}: left as it is`);
        continue;
      }
      const server = name === DOCKER_HUB ? 'https://registry-1.docker.io' : url;
      const isTls = !isLazy && server.startsWith('https:') && folder !== undefined;
      const all = [
        HOSTS_MARK,
        `server = "${isLazy ? agent : server}"`,
        ...(isTls ? await certificatesIn(folder) : []),
        `[host."${agent}"]`,
        '  capabilities = ["pull", "resolve"]',
      ];
      const isOwn = folder !== undefined && dirname(folder) === resolve(dirs[0]);
      const own = isOwn ? folder : join(dirs[0], name);
      changes.push({ path: join(own, 'hosts.toml'), before, after: `${all.join('\n')}\n` });
    }
  }
  return { changes, warnings };
}

/** Where containerd looks for what it is to know of a registry, if it finds a folder: `host_port_` comes before `host:port`. */
async function folderOf(dirs: readonly string[], name: string): Promise<string | undefined> {
  const names = [name.replace(/:(\d+)$/, '_$1_'), name];
  for (const dir of dirs) {
    const there = await namesIn(dir);
    const found = names.find((one) => there.includes(one));
    if (found !== undefined) return join(dir, found);
    if (there.includes(EVERY_OTHER)) return undefined;
  }
  return undefined;
}

/** The lines that stand for certificate files as Docker lays them out: `*.crt`, and `*.cert` with its `*.key`. */
async function certificatesIn(folder: string): Promise<string[]> {
  const names = (await namesIn(folder)).toSorted();
  const pathOf = (name: string): string => JSON.stringify(join(folder, name));
  const ca = names.filter((name) => name.endsWith('.crt')).map(pathOf);
  const pairs = names
    .filter((name) => name.endsWith('.cert'))
    .map((cert) => [cert, cert.replace(/cert$/, 'key')] as const)
    .filter(([, key]) => names.includes(key))
    .map((pair) => `[${pair.map(pathOf).join(', ')}]`);
  return [
    ...(ca.length === 0 ? [] : [`ca = [${ca.join(', ')}]`]),
    ...(pairs.length === 0 ? [] : [`client = [${pairs.join(', ')}]`]),
  ];
}

/** Names by which images of an upstream are pulled: Docker Hub's three are one to containerd. */
function namesOf(url: string, hosts: readonly string[]): string[] {
  const canonical = (host: string): string => (DOCKER_HUB_HOSTS.has(host) ? DOCKER_HUB : host);
  const isHost = (host: string): boolean => /[.:]/.test(host) || host === 'localhost';
  return [...new Set([hostOf(url), ...hosts].map((host) => canonical(host.toLowerCase())).filter(isHost))];
}
