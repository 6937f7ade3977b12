import { resolve } from 'node:path';
import type { Command } from 'commander';
import { type ContentFetch, fetchContent } from '../../lazy/fetch-content.ts';
import { effectiveConfig } from '../../lazy/node-facts.ts';
import { hostsDirs } from '../../lazy/registry-hosts.ts';

interface Flags extends Omit<ContentFetch, 'hostsDir'> {
  readonly config: string;
  readonly hostsDir?: string;
}

/** `sepia lazy fetch`. */
export function addFetch(lazy: Command): void {
  lazy
    .command('fetch <ref>')
    .description('bring all layers of a lazy image into containerd, so that export, commit and push work')
    .option('--address <socket>', 'containerd’s socket', '/run/containerd/containerd.sock')
    .option('--namespace <name>', 'containerd’s namespace of the image', 'k8s.io')
    .option('--platform <os/arch>', 'platform of an image index (default: this machine’s)')
    .option(
      '--config <file>',
      'containerd’s config, for where its hosts.toml files are',
      '/etc/containerd/config.toml',
    )
    .option('--hosts-dir <dir>', 'folder of hosts.toml files (default: containerd’s config_path)')
    .option('--ctr <program>', 'containerd’s client', 'ctr')
    .action(async (reference: string, flags: Flags) => {
      const hostsDir =
        flags.hostsDir === undefined
          ? hostsDirs(await effectiveConfig(resolve(flags.config)))[0]
          : resolve(flags.hostsDir);
      await fetchContent(reference, { ...flags, hostsDir });
      process.stdout.write(`${reference}: all of it is in containerd’s content store\n`);
    });
}
