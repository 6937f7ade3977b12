import { resolve } from 'node:path';
import { CodedError } from '@sepia/base/errors';
import { loadClusterDocument } from '@sepia/cluster/load-document';
import type { Command } from 'commander';
import { applyChanges, type Change, isLeft, textOf } from '../lazy/changed-files.ts';
import {
  type ContainerdFiles,
  plannedChanges,
  plannedProxyPlugin,
  restore,
} from '../lazy/configure-containerd.ts';
import { chooseDoor } from '../lazy/door.ts';
import { lazyContainersHere } from '../lazy/lazy-containers.ts';
import { plannedMirrors } from '../lazy/mirror-hosts.ts';
import {
  CONTAINERD_CONFIG,
  effectiveConfig,
  isLazyConfig,
  probeNode,
  whyNotUnderstood,
} from '../lazy/node-facts.ts';
import { namesDisk } from '../lazy/proxy-plugin-toml.ts';
import { hostsDirs, namesHostsDir, plannedHosts, restoreHosts } from '../lazy/registry-hosts.ts';
import { urlOption } from '../options/option-values.ts';
import { readClusterFile, USUAL_CLUSTER_FILE } from '../up/cluster-file.ts';
import { DEFAULT_AGENT } from '../up/plan.ts';

interface Flags {
  readonly lazy: boolean;
  readonly dryRun: boolean;
  readonly restore: boolean;
  readonly config: string;
  readonly contentCache: string;
  readonly socket: string;
  readonly data?: string;
  readonly door?: string;
  readonly agent: string;
  readonly hostsDir?: string;
  readonly cluster: string;
  readonly clusterDocument?: string;
}

const CONTENT_CACHE = '/var/lib/sepia/layer-content';
const UNMEASURED =
  "the kubelet does not know the disk of the snapshotter's layers: give --data DIR, else its image garbage collection and its limits of ephemeral storage fail\n";

/** `sepia configure containerd`. */
export function addConfigure(program: Command): void {
  const configure = program.command('configure').description('set up this node’s container engine');
  configure
    .command('containerd')
    .description(
      'put this node’s agent in front of the registries of the cluster; with --lazy also let containerd start images before they are downloaded; or undo that',
    )
    .option(
      '--lazy',
      'show layers to its erofs snapshotter (containerd 2.4, Linux 6.12, erofs-utils 1.7), or put ours behind it (containerd 1.6, Linux 6.9)',
      false,
    )
    .option('--dry-run', 'probe and print what would be written', false)
    .option(
      '--restore',
      'take back what was written, and name the containers that still need the snapshotter',
      false,
    )
    .option('--config <file>', 'containerd’s config', CONTAINERD_CONFIG)
    .option('--content-cache <dir>', 'folder of the snapshotter’s content-cache key (door 1)', CONTENT_CACHE)
    .option('--socket <path>', 'snapshotter’s snapshots-socket key (door 2)', '/run/sepia/snapshots.sock')
    .option(
      '--data <dir>',
      'snapshotter’s data key (door 2): the kubelet is told to measure the disk that it is on',
    )
    .option('--door <n>', '1: erofs snapshotter, 2: ours; left out: 1 where it can be')
    .option('--agent <url>', 'registry endpoint of this node’s agent', urlOption('--agent'), DEFAULT_AGENT)
    .option('--hosts-dir <dir>', 'folder of hosts.toml files (default: containerd’s config_path)')
    .option(
      '--cluster <file>',
      'without --lazy: cluster.json, which names the registries',
      USUAL_CLUSTER_FILE,
    )
    .option('--cluster-document <file>', 'cluster document, where there is no cluster.json')
    .action(async (flags: Flags) => {
      const files = { config: resolve(flags.config), contentCache: resolve(flags.contentCache) };
      if (flags.lazy && flags.restore)
        throw new CodedError('CONFIG_INVALID', {
          message: 'configure containerd: give --lazy or --restore, not both',
        });
      if (flags.restore) {
        const dirs =
          flags.hostsDir === undefined
            ? hostsDirs(await effectiveConfig(files.config))
            : [resolve(flags.hostsDir)];
        const told = [...(await restore(files)), ...(await restoreHosts(dirs))];
        say(told, 'nothing to take back');
        // Whoever takes the snapshotter away next has a containerd that still asks for it.
        if (told.some(isLeft)) process.exitCode = 1;
        process.stdout.write(await whatToStop(files.contentCache));
        return;
      }
      const { changes, note } = flags.lazy
        ? await changesFor(files, flags)
        : await mirrorsFor(files.config, flags);
      if (flags.dryRun) {
        say(
          changes.map(({ path, after }) => `--- ${path}\n${after}`),
          'nothing to write',
        );
        process.stdout.write(note);
        return;
      }
      await applyChanges(changes);
      say(
        changes.map(({ path }) => `${path}: written`),
        'nothing to write',
      );
      process.stdout.write(note);
      if (flags.lazy && changes.length > 0)
        process.stdout.write('restart containerd now; running containers stay\n');
    });
}

/** A `hosts.toml` for each registry of the cluster; containerd reads them at each pull. @throws {CodedError} `CONFIG_INVALID` */
async function mirrorsFor(
  config: string,
  { agent, hostsDir, cluster, clusterDocument }: Flags,
): Promise<{ changes: readonly Change[]; note: string }> {
  const { upstreams } =
    clusterDocument === undefined
      ? readClusterFile(cluster, ', or its document with --cluster-document')
      : loadClusterDocument(clusterDocument);
  const dump = await effectiveConfig(config);
  const dirs: [string, ...string[]] = hostsDir === undefined ? hostsDirs(dump) : [resolve(hostsDir)];
  const { changes, warnings } = await plannedMirrors(dirs, { agent, isLazy: isLazyConfig(dump) }, upstreams);
  // An agent is asked by its own address then: any client does that without a file.
  if (upstreams.every(({ url }) => url === undefined || url === null))
    return {
      changes,
      note: `no registry stands behind this cluster; pull by the agent's own name: ${new URL(agent).host}/REPOSITORY:TAG\n`,
    };
  const unread = !namesHostsDir(dump)
    ? [
        `${config}: config_path is not set: containerd reads no hosts.toml until its registry section has config_path = "${dirs[0]}" and it was restarted`,
      ]
    : [];
  return { changes, note: [...warnings, ...unread].map((one) => `${one}\n`).join('') };
}

/** What the door of this node would write, and what else is to be done. @throws {CodedError} `START_FAILED`, `CONFIG_INVALID` */
async function changesFor(
  files: ContainerdFiles,
  { door: asked, socket, data, agent, hostsDir }: Flags,
): Promise<{ changes: Change[]; note: string }> {
  if (asked !== undefined && asked !== '1' && asked !== '2')
    throw new CodedError('CONFIG_INVALID', { message: `--door: ${asked} is neither 1 nor 2` });
  const facts = await probeNode(files.config);
  const { door, reasons } = chooseDoor(facts);
  const wanted = asked ?? String(door);
  if (door === 'none' || (asked === '1' && door !== 1))
    throw new CodedError('START_FAILED', {
      message: `${door === 'none' ? 'this node pulls the ordinary way' : 'door 1 is not possible here'}:\n${reasons.map((one) => `  - ${one}`).join('\n')}`,
      detail: { reasons },
    });
  const dirs = hostsDir === undefined ? hostsDirs(facts.config) : [resolve(hostsDir)];
  const hosts = await plannedHosts(dirs, agent);
  const round = hosts.warnings.map((one) => `round the agent ${agent}: ${one}\n`).join('');
  if (wanted === '1') return { changes: [...(await plannedChanges(files)), ...hosts.changes], note: round };
  const at = resolve(socket);
  const plugin = { socket: at, data: data === undefined ? undefined : resolve(data) };
  const changes = await plannedProxyPlugin(files.config, { ...plugin, containerd: facts.containerd! });
  for (const { after } of changes) {
    const fault = await whyNotUnderstood(after, at);
    if (fault !== undefined)
      throw new CodedError('CONFIG_INVALID', {
        message: `${files.config} cannot be changed safely (${fault}); add a proxy_plugins entry for ${at} by hand`,
      });
  }
  const isMeasured = namesDisk(changes[0]?.after ?? (await textOf(files.config)) ?? '');
  const why = reasons.map((one) => `  - ${one}\n`).join('');
  const unused =
    files.contentCache === CONTENT_CACHE
      ? ''
      : `--content-cache ${files.contentCache} is not used: only containerd's erofs snapshotter (door 1) looks into it\n`;
  return {
    changes: [...changes, ...hosts.changes],
    note: `${round}${unused}${isMeasured ? '' : UNMEASURED}door 2 (our snapshotter)${why === '' ? '\n' : `; not door 1:\n${why}`}the snapshotter needs in its config: snapshots-socket: ${at}\n`,
  };
}

/** Who must be stopped before the snapshotter is; empty where nobody. */
async function whatToStop(contentCache: string): Promise<string> {
  const containers = await lazyContainersHere(contentCache);
  if (containers.length === 0) return '';
  const lines = containers.map(
    ({ name, layers }) => `  - ${name} (${layers} layer${layers === 1 ? '' : 's'})`,
  );
  return [
    'these containers read layers of the snapshotter, and go on while it runs (its holder does):',
    ...lines,
    'stop them and remove their images before you end it: kill $(cat DATA/holder.pid) in its data folder\n',
  ].join('\n');
}

function say(lines: readonly string[], otherwise: string): void {
  process.stdout.write(`${lines.length === 0 ? otherwise : lines.join('\n')}\n`);
}
