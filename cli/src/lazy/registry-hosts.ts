import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { type Change, isNotThere, restoreFile, textOf } from './changed-files.ts';
import { ownLines } from './toml-lines.ts';

/** What containerd reads of registries: a folder per host, `hosts.toml` in it. */
const HOSTS_DIR = '/etc/containerd/certs.d';
/** The folder of registries that have none of their own. */
export const EVERY_OTHER = '_default';

/** How a registry's pulls go, and what of it can be mended. */
export interface RegistryHosts {
  readonly changes: readonly Change[];
  /** Ways round the agent that are left, one line each. */
  readonly warnings: readonly string[];
}

/**
 * Closes the ways round the agent. containerd goes on to `server`, or to the registry itself where there is none, when the
 * agent refuses an image: what comes that way was judged by nobody, and would find the layers that are shown here.
 * So `server` becomes the agent too. `dirs`: containerd's `config_path`.
 */
export async function plannedHosts(dirs: readonly string[], agent: string): Promise<RegistryHosts> {
  const changes: Change[] = [];
  const warnings: string[] = [];
  let isDefault = false;
  for (const dir of dirs)
    for (const name of (await namesIn(dir)).toSorted()) {
      const path = join(dir, name, 'hosts.toml');
      const before = await textOf(path);
      if (before === undefined) continue;
      isDefault ||= name === EVERY_OTHER;
      const { after, ways } = throughAgent(before, agent);
      if (after !== before) changes.push({ path, before, after });
      warnings.push(...ways.map((way) => `${path}: ${way}`));
    }
  if (!isDefault)
    warnings.push(
      `${join(dirs[0] ?? HOSTS_DIR, EVERY_OTHER, 'hosts.toml')} is not there: registries without a folder are asked directly`,
    );
  return { changes, warnings };
}

/** A `hosts.toml` whose `server` is the agent, where it `names` the agent at all; all else stays byte for byte. */
export function throughAgent(text: string, agent: string): { after: string; ways: string[]; names: boolean } {
  const lines = text.split('\n');
  const shown = ownLines(lines);
  const firstTable = shown.findIndex((line) => /^\s*\[/.test(line));
  const top = firstTable < 0 ? lines.length : firstTable;
  const at = shown.findIndex(
    (line, index) => index < top && /^\s*(?:server|"server"|'server')\s*=/.test(line),
  );
  const server = at < 0 ? undefined : /=\s*(["'])(.*?)\1/.exec(lines[at]!)?.[2];
  const hosts = shown.flatMap((line) => /^\s*\[\s*host\s*\.\s*(["'])(.*?)\1\s*\]/.exec(line)?.[2] ?? []);
  const own =
    hosts.find((host) => isSame(host, agent)) ??
    (server !== undefined && isSame(server, agent) ? server : undefined);
  if (own === undefined)
    return { after: text, ways: ['does not name the agent: its pulls are judged by nobody'], names: false };
  const ways = hosts
    .filter((host) => !isSame(host, agent))
    .map((host) => `names ${host} beside the agent: take it out, or give it no "pull" and "resolve"`);
  if (server !== undefined && isSame(server, agent)) return { after: text, ways, names: true };
  const line = `server = ${JSON.stringify(own)}`;
  const after = at < 0 ? [line, ...lines] : lines.with(at, line);
  return { after: after.join('\n'), ways, names: true };
}

/** Takes back what was written into `hosts.toml` files. @returns one line each */
export async function restoreHosts(dirs: readonly string[]): Promise<string[]> {
  const done: string[] = [];
  for (const dir of dirs)
    for (const name of await namesIn(dir)) {
      const line = await restoreFile(join(dir, name, 'hosts.toml'));
      if (line !== undefined) done.push(line);
    }
  return done;
}

/** The folders of `config_path` in what `containerd config dump` prints. */
export function hostsDirs(dump: string | undefined): [string, ...string[]] {
  const [first = HOSTS_DIR, ...others] = namedDirs(dump);
  return [first, ...others];
}

/** True if containerd's config has a `config_path`: without one it reads no `hosts.toml`. */
export function namesHostsDir(dump: string | undefined): boolean {
  return namedDirs(dump).length > 0;
}

function namedDirs(dump: string | undefined): string[] {
  const found = [...(dump ?? '').matchAll(/^\s*config_path\s*=\s*(["'])(.+?)\1\s*$/gm)];
  return [...new Set(found.flatMap((one) => one[2]!.split(':')).filter((dir) => dir.startsWith('/')))];
}

/** Names in a folder of `config_path`, or of a registry; none where it is not there. */
export async function namesIn(dir: string): Promise<string[]> {
  try {
    return await readdir(dir);
  } catch (error) {
    if (!isNotThere(error)) throw error;
    return [];
  }
}

function isSame(url: string, agent: string): boolean {
  const withScheme = url.includes('://') ? url : `https://${url}`;
  return URL.canParse(withScheme) && originOf(withScheme) === originOf(agent);
}

function originOf(url: string): string {
  const { protocol, host } = new URL(url);
  return `${protocol}//${host.replace(/^localhost(?=:|$)/, '127.0.0.1')}`;
}
