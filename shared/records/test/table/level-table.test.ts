import { join } from 'node:path';
import { CodedError } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import { type Database, DataFolder } from '@sepia/store/data-folder';
import type { DatabaseWrite } from '@sepia/store/level-database';
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

t.test(
  'what was written last is read without the database; after a failed write that says what is there',
  async (t) => {
    const stored = new Map<string, string>();
    let reads = 0;
    let fails = false;
    const get = async (key: string): Promise<string | undefined> => {
      reads += 1;
      return stored.get(key);
    };
    const db = {
      get,
      getMany: async (keys: readonly string[]) => await Promise.all(keys.map(get)),
      write: async (writes: readonly DatabaseWrite[]) => {
        for (const one of writes)
          if (one.type === 'put') stored.set(one.key, one.value);
          else stored.delete(one.key);
        if (fails) throw new CodedError('DISK_FULL');
      },
    } as unknown as Database;
    const table = new LevelTable({ db });
    const write = async (one: DatabaseWrite): Promise<string | undefined> =>
      await table.change([one.key], ([found]) => ({ writes: [one], answer: found }));
    t.equal(await write({ type: 'put', key: 'a', value: '1' }), undefined);
    t.equal(await write({ type: 'put', key: 'a', value: '2' }), '1');
    t.same([await table.get('a'), await table.getMany(['a']), reads], ['2', ['2'], 1]);
    await write({ type: 'del', key: 'a' });
    t.same([await table.get('a'), reads], [undefined, 1]);
    t.same([await table.getMany(['a', 'b']), reads], [[undefined, undefined], 3], 'one of them is not known');
    const long = 'x'.repeat(5_000);
    await write({ type: 'put', key: 'a', value: long });
    t.same([await table.get('a'), reads], [long, 4], 'what is long is read again');
    await write({ type: 'put', key: 'c', value: '1' });
    fails = true;
    await t.rejects(write({ type: 'put', key: 'c', value: '2' }), { code: 'DISK_FULL' });
    t.same([await table.get('c'), reads], ['2', 6], 'it may be there');
    for (let at = 0; at < 2_001; at++) {
      fails = false;
      await write({ type: 'put', key: `k${at}`, value: '1' });
    }
    const before = reads;
    t.same(
      [await table.get('k0'), await table.get('k2000'), reads - before],
      ['1', '1', 1],
      'the last 2,000',
    );
    table.forgetAll();
    t.same([await table.get('k2000'), reads - before], ['1', 2], 'none at rest');
  },
);
