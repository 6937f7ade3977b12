import { CodedError } from '@sepia/shared/errors';
import type { Command } from 'commander';
import { parseImageReference } from '../registry/image-reference.ts';

/** `sepia preheat`: named in the command line's contract, not built yet. */
export function addPreheat(program: Command): void {
  program
    .command('preheat <ref>')
    .description('(not built yet) have every node fetch an image before it is needed')
    .action((ref: string) => {
      parseImageReference(ref);
      throw new CodedError('METHOD_UNSUPPORTED', {
        message: `preheat is not built yet; until then pull it on each node: sepia pull ${ref} --agent URL`,
      });
    });
}
