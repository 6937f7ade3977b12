import type { Command } from 'commander';
import { mainOfRole } from '../up/member-process.ts';
import { ROLES } from '../up/plan.ts';

const PURPOSE = {
  origin: "keep the cluster's own copy of blobs and records",
  tracker: 'tell agents who has what',
  proxy: 'take pushes and answer for tags',
  agent: "be a node's registry endpoint and swarm member",
  accelerator: 'convert and index images by the rules of the cluster document',
  snapshotter: 'show layers to containerd before they are downloaded (root, Linux, one per node)',
} as const;

/** `sepia origin|tracker|agent|proxy|accelerator|snapshotter --config FILE`: that service in this process. */
export function addRoles(program: Command): void {
  for (const role of ROLES) {
    const command = program
      .command(role)
      .description(PURPOSE[role])
      .requiredOption('--config <file>', `its config; "sepia config ${role}" prints one to begin with`)
      .action(async (flags: { config: string; acceptLoss?: boolean }) => {
        const main = mainOfRole(role);
        const further = flags.acceptLoss === true ? ['--accept-loss'] : [];
        process.argv = [process.argv[0]!, main, '--config', flags.config, ...further];
        await import(main);
      });
    if (role === 'origin')
      command.option(
        '--accept-loss',
        'count with the records that are here although other origins cannot hand theirs over; what only they had is lost',
      );
  }
}
