import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';

/** `sepia snapshotter --config FILE`: sees to this node's mount of lazy layers. */
export function addSnapshotter(program: Command): void {
  program
    .command('snapshotter')
    .description('show layers to containerd before they are downloaded (root, Linux, one per node)')
    .requiredOption('--config <file>', 'its config; snapshotter/README.md tells its keys')
    .action(async (flags: { config: string }) => {
      const main = fileURLToPath(import.meta.resolve('@sepia/snapshotter/main'));
      process.argv = [process.argv[0]!, main, '--config', resolve(flags.config)];
      await import(main);
    });
}
