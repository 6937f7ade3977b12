import { CodedError } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import { PostgresTable } from '@sepia/records/table/postgres/postgres-table';
import type { Command } from 'commander';
import { Operator, type OperatorFlags, operatorOptions } from '../operator/operator.ts';
import { recordsEngineOf, URL_FILE_HELP } from '../options/option-values.ts';
import { copyFromTable, copyToTable } from '../records/copy-records.ts';
import { countsText } from './backup.ts';

interface CopyFlags extends OperatorFlags {
  readonly from: string;
  readonly to: string;
  readonly urlFile?: string;
}

/** `sepia records`. */
export function addRecords(program: Command): void {
  const records = program
    .command('records')
    .description('tags and links: copy them between the origins and a PostgreSQL');
  operatorOptions(records.command('copy'))
    .description(
      'copy all records between the origins (which run with records.engine embedded) and a PostgreSQL, and compare them; refused while a proxy runs',
    )
    .requiredOption('--from <engine>', 'embedded, or postgres with --url-file')
    .requiredOption('--to <engine>', 'the other one')
    .option('--url-file <file>', URL_FILE_HELP)
    .action(async (flags: CopyFlags) => {
      const { url, to } = copyOf(flags);
      await using operator = Operator.open(flags);
      const table = await PostgresTable.open({ log: silentLogger() }, { url });
      try {
        const deps = { operator, table, clusterKey: operator.clusterKey };
        const counts = await (to === 'embedded' ? copyFromTable(deps) : copyToTable(deps));
        process.stdout.write(`${countsText(counts)}: copied, and the same on both sides\n`);
      } finally {
        await table.close();
      }
    });
}

/** The database, and which side is written to. @throws {CodedError} `CONFIG_INVALID` */
function copyOf({ from, to, urlFile }: Pick<CopyFlags, 'from' | 'to' | 'urlFile'>): {
  readonly url: string;
  readonly to: string;
} {
  const named = [
    { flag: '--from', text: from },
    { flag: '--to', text: to },
  ].filter(({ text }) => text !== 'embedded');
  const [one] = named;
  if (one === undefined || named.length > 1)
    throw new CodedError('CONFIG_INVALID', {
      message: '--from, --to: one is embedded, the other postgres, with its address in --url-file',
    });
  if (urlFile !== undefined && one.text !== 'postgres')
    throw new CodedError('CONFIG_INVALID', {
      message: `--url-file: ${one.flag} names an address already; let it be postgres`,
    });
  return { url: recordsEngineOf(one.text, urlFile, one.flag), to };
}
