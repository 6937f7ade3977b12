import { filesOf } from '@sepia/cluster/core/path-line';
import type { Command } from 'commander';
import { keepProfile } from '../../lazy/keep-profile.ts';
import { saveIndex } from '../../lazy/layer-file.ts';
import { recordedProfile } from '../../lazy/recorded-profile.ts';
import { DEFAULT_SNAPSHOTTER } from '../../lazy/snapshotter-status.ts';
import { profileText } from '../../lazy/start-profile.ts';
import { Operator, type OperatorFlags, operatorOptions } from '../../operator/operator.ts';
import { urlOption } from '../../options/option-values.ts';

interface ProfileFlags extends OperatorFlags {
  readonly admin: string;
  readonly out?: string;
  readonly keep: boolean;
}

/** `sepia lazy profile`. */
export function addProfile(lazy: Command): void {
  const command = lazy
    .command('profile <ref>')
    .description(
      'list the files that starts of a lazy image read on this node, in their order: for "sepia convert --prioritize", and for fill-first of snapshotters',
    )
    .option('--admin <url>', 'admin address of the snapshotter', urlOption('--admin'), DEFAULT_SNAPSHOTTER)
    .option('--out <file>', 'write the list to this file instead of printing it')
    .option(
      '--keep',
      'keep the list in the cluster: nodes that pull the image, or another of its repository, fetch these files first, and rules with "profile: true" put them first',
      false,
    );
  operatorOptions(command).action(async (reference: string, flags: ProfileFlags) => {
    const profile = await recordedProfile(reference, flags.admin);
    if (flags.keep) {
      await using operator = Operator.open(flags);
      const kept = await keepProfile(operator, operator.nameOf(reference), profile);
      process.stdout.write(
        `kept in the cluster: ${filesOf(kept).length} of ${filesOf(profile.paths).length} files of ${profile.image}\n`,
      );
    }
    if (flags.out !== undefined) {
      await saveIndex(flags.out, Buffer.from(profileText(profile)));
      process.stdout.write(`${flags.out}: ${filesOf(profile.paths).length} files of ${profile.image}\n`);
    } else if (!flags.keep) process.stdout.write(profileText(profile));
  });
}
