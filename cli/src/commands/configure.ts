import { resolve } from 'node:path';
import { CodedError } from '@sepia/base/errors';
import type { Command } from 'commander';
import { applyChanges, plannedChanges, restore } from '../lazy/configure-containerd.ts';
import { chooseDoor } from '../lazy/door.ts';
import { probeNode } from '../lazy/node-facts.ts';

interface Flags {
  readonly lazy: boolean;
  readonly dryRun: boolean;
  readonly restore: boolean;
  readonly config: string;
  readonly contentCache: string;
}

/** `sepia configure containerd`. */
export function addConfigure(program: Command): void {
  const configure = program.command('configure').description('set up this node’s container engine');
  configure
    .command('containerd')
    .description('let containerd start images before they are downloaded, or undo that')
    .option(
      '--lazy',
      'show layers to its erofs snapshotter (containerd 2.4, Linux 6.12, erofs-utils 1.7)',
      false,
    )
    .option('--dry-run', 'probe and print what would be written', false)
    .option('--restore', 'take back what --lazy wrote', false)
    .option('--config <file>', 'containerd’s config', '/etc/containerd/config.toml')
    .option(
      '--content-cache <dir>',
      'folder of the snapshotter’s content-cache key',
      '/var/lib/sepia/layer-content',
    )
    .action(async (flags: Flags) => {
      const files = { config: resolve(flags.config), contentCache: resolve(flags.contentCache) };
      if (flags.lazy === flags.restore)
        throw new CodedError('CONFIG_INVALID', { message: 'configure containerd: give --lazy or --restore' });
      if (flags.restore) return say(await restore(files), 'nothing to take back');
      const { reasons } = chooseDoor(await probeNode(files.config));
      if (reasons.length > 0)
        throw new CodedError('START_FAILED', {
          message: `this node pulls the ordinary way:\n${reasons.map((one) => `  - ${one}`).join('\n')}`,
          detail: { reasons },
        });
      const changes = await plannedChanges(files);
      if (flags.dryRun)
        return say(
          changes.map(({ path, after }) => `--- ${path}\n${after}`),
          'nothing to write',
        );
      await applyChanges(changes);
      say(
        changes.map(({ path }) => `${path}: written`),
        'nothing to write',
      );
      if (changes.length > 0) process.stdout.write('restart containerd now; running containers stay\n');
    });
}

function say(lines: readonly string[], otherwise: string): void {
  process.stdout.write(`${lines.length === 0 ? otherwise : lines.join('\n')}\n`);
}
