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

t.test('changes of one turn of the event loop are one synced batch', async (t) => {
  const batches: number[] = [];
  const db = {
    get: async () => undefined,
    write: async (writes: readonly unknown[]) => {
      batches.push(writes.length);
    },
  } as unknown as Database;
  const table = new LevelTable({ db });
  const put = async (key: string): Promise<string> =>
    await table.change([key], () => ({ writes: [{ type: 'put', key, value: '1' }], answer: key }));
  t.same(await Promise.all(['a', 'b', 'c'].map(put)), ['a', 'b', 'c']);
  t.same(batches, [3]);
  await put('d');
  t.same(batches, [3, 1]);
});
