import type { Command } from 'commander';
import { saveIndex } from '../../lazy/layer-file.ts';
import { DEFAULT_SNAPSHOTTER, snapshotterImages, snapshotterReads } from '../../lazy/snapshotter-status.ts';
import { profileOf, profileText } from '../../lazy/start-profile.ts';
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
      const [images, reads] = await Promise.all([
        snapshotterImages(flags.admin),
        snapshotterReads(flags.admin),
      ]);
      const profile = profileOf(reference, images, reads);
      for (const layer of profile.unseen)
        process.stderr.write(
          `${layer} is whole on this node: reads since its last mount may be missing; record on a node with "fill: none"\n`,
        );
      if (flags.out === undefined) process.stdout.write(profileText(profile));
      else {
        await saveIndex(flags.out, Buffer.from(profileText(profile)));
        process.stdout.write(`${flags.out}: ${profile.paths.length} files of ${profile.image}\n`);
      }
    });
}
