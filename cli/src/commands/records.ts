import { CodedError } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import { PostgresTable } from '@sepia/records/table/postgres/postgres-table';
import type { Command } from 'commander';
import { Operator, type OperatorFlags, operatorOptions } from '../operator/operator.ts';
import { isRecordsEngine } from '../options/option-values.ts';
import { copyFromTable, copyToTable } from '../records/copy-records.ts';
import { countsText } from './backup.ts';

interface CopyFlags extends OperatorFlags {
  readonly from: string;
  readonly to: string;
}

/** `sepia records`. */
export function addRecords(program: Command): void {
  const records = program.command('records').description('where tags and links rest');
  operatorOptions(records.command('copy'))
    .description(
      'copy all records between the origins (which run with records.engine embedded) and a PostgreSQL, and compare them; refused while a proxy runs',
    )
    .requiredOption('--from <engine>', 'embedded, or postgres://user@host:port/database')
    .requiredOption('--to <engine>', 'the other one')
    .action(async (flags: CopyFlags) => {
      const { from, to } = flags;
      const engines = [from, to].filter((one) => one !== 'embedded');
      if (engines.length !== 1 || !isRecordsEngine(from) || !isRecordsEngine(to))
        throw new CodedError('CONFIG_INVALID', {
          message:
            '--from, --to: one is embedded, the other an address such as postgres://user@host:5432/database',
        });
      await using operator = Operator.open(flags);
      const table = await PostgresTable.open({ log: silentLogger() }, { url: engines[0]! });
      try {
        const deps = { operator, table, clusterKey: operator.clusterKey };
        const counts = await (to === 'embedded' ? copyFromTable(deps) : copyToTable(deps));
        process.stdout.write(`${countsText(counts)}: copied, and the same on both sides\n`);
      } finally {
        await table.close();
      }
    });
}
