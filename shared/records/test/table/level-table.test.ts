import { join } from 'node:path';
import { silentLogger } from '@sepia/base/log';
import { type Database, DataFolder } from '@sepia/store/data-folder';
import t from 'tap';
import { LevelTable } from '../../src/table/level-table.ts';
import type { RecordTable } from '../../src/table/record-table.ts';
import { recordsContract } from './contract.ts';

const opened = new WeakMap<RecordTable, { readonly db: Database; readonly dir: string }>();

async function openAt(dir: string): Promise<RecordTable> {
  const { db } = await DataFolder.open({ log: silentLogger() }, { dir, id: 'o1' });
  const table = new LevelTable({ db });
  opened.set(table, { db, dir });
  return table;
}

t.test('records on the embedded engine', async (t) => {
  await recordsContract(t, {
    open: async (t) => {
      const table = await openAt(join(t.testdir(), 'data'));
      t.teardown(async () => await opened.get(table)?.db.close());
      return table;
    },
    again: async (t, table) => {
      const { db, dir } = opened.get(table)!;
      await table.idle();
      await db.close();
      const again = await openAt(dir);
      t.teardown(async () => await opened.get(again)?.db.close());
      return again;
    },
  });
});
