import { join } from 'node:path';
import type { Database } from '@sepia/store/data-folder';
import { Level } from 'level';
import t from 'tap';
import { LevelTable } from '../../src/table/level-table.ts';
import type { RecordTable } from '../../src/table/record-table.ts';
import { recordsContract } from './contract.ts';

const databases = new WeakMap<RecordTable, { readonly db: Database; readonly path: string }>();

async function openAt(path: string): Promise<RecordTable> {
  const db: Database = new Level<string, string>(path);
  await db.open();
  const table = new LevelTable({ db });
  databases.set(table, { db, path });
  return table;
}

t.test('records on the embedded engine', async (t) => {
  await recordsContract(t, {
    open: async (t) => {
      const table = await openAt(join(t.testdir(), 'db'));
      t.teardown(async () => await databases.get(table)?.db.close());
      return table;
    },
    again: async (t, table) => {
      const { db, path } = databases.get(table)!;
      await table.idle();
      await db.close();
      const again = await openAt(path);
      t.teardown(async () => await databases.get(again)?.db.close());
      return again;
    },
  });
});
