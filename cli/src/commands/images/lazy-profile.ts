import type { Command } from 'commander';
import { saveIndex } from '../../lazy/layer-file.ts';
import { recordedProfile } from '../../lazy/recorded-profile.ts';
import { DEFAULT_SNAPSHOTTER } from '../../lazy/snapshotter-status.ts';
import { profileText } from '../../lazy/start-profile.ts';
import { urlOption } from '../../options/option-values.ts';

/** `sepia lazy profile`. */
export function addProfile(lazy: Command): void {
  lazy
    .command('profile <ref>')
    .description(
      'list the files that starts of a lazy image read on this node, in their order: for "sepia convert --prioritize", and for fill-first of snapshotters',
    )
    .option('--admin <url>', 'admin address of the snapshotter', urlOption('--admin'), DEFAULT_SNAPSHOTTER)
    .option('--out <file>', 'write the list to this file instead of printing it')
    .action(async (reference: string, flags: { admin: string; out?: string }) => {
      const profile = await recordedProfile(reference, flags.admin);
      if (flags.out === undefined) process.stdout.write(profileText(profile));
      else {
        await saveIndex(flags.out, Buffer.from(profileText(profile)));
        process.stdout.write(`${flags.out}: ${profile.paths.length} files of ${profile.image}\n`);
      }
    });
}
