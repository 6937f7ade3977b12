import { CodedError } from '@sepia/base/errors';
import type { Command } from 'commander';
import { backup } from '../backup/backup.ts';
import { restore } from '../backup/restore.ts';
import { Operator, type OperatorFlags, operatorOptions } from '../operator/operator.ts';

const NAMES: Readonly<Record<string, string>> = {
  r1: 'tags',
  l1: 'links',
  t1: 'tag index entries',
  n1: 'repositories',
  f1: 'referrers',
  j1: 'replication jobs',
};

/** `sepia backup` and `sepia restore`. */
export function addBackup(program: Command): void {
  operatorOptions(program.command('backup'))
    .description(
      'write tags with their histories, links, referrers, repositories and replication jobs to a file; no blobs',
    )
    .requiredOption('--out <file>', 'file to write; it appears when it is whole')
    .action(async (flags: OperatorFlags & { out: string }) => {
      await using operator = Operator.open(flags);
      const { counts, missing, isResumed } = await backup(operator, flags.out, () => undefined);
      if (isResumed) process.stdout.write(`went on with ${flags.out}.partial\n`);
      if (missing.length > 0)
        process.stdout.write(
          `${missing.join(', ')} did not answer; every acknowledged record is on others as well\n`,
        );
      process.stdout.write(`${flags.out}: ${countsText(counts)}. Blobs are not in it.\n`);
    });
  operatorOptions(program.command('restore <file>'))
    .description('put the records of a backup into a cluster; nothing newer is overwritten')
    .action(async (file: string, flags: OperatorFlags) => {
      await using operator = Operator.open(flags);
      if (operator.originIds.length === 0)
        throw new CodedError('CONFIG_INVALID', { message: 'the cluster document has no origin' });
      const { head, counts, left } = await restore(operator, file, () => undefined);
      if (left > 0)
        process.stdout.write(
          `${left} records belong to upstreams that this cluster does not have; left out\n`,
        );
      const made = new Date(head.createdAtMs).toISOString();
      process.stdout.write(
        `put back what was backed up at ${made}: ${countsText(counts)}; what is newer in the cluster, deletions too, stayed as it is\n`,
      );
    });
}

export function countsText(counts: Readonly<Record<string, number>>): string {
  return Object.entries(counts)
    .map(([space, count]) => `${count} ${NAMES[space] ?? space}`)
    .join(', ');
}
