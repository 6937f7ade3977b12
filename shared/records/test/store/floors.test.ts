import { silentLogger } from '@sepia/base/log';
import { DataFolder } from '@sepia/store/data-folder';
import t, { type Test } from 'tap';
import { mayGo } from '../../src/core/floor.ts';
import { RecordStore } from '../../src/store/record-store.ts';
import { LevelTable } from '../../src/table/level-table.ts';

const SHARD = ['u', 'r'];
const KEY = [...SHARD, 'k'];
const OTHER = ['u', 'r2', 'k'];
const value = { sizeBytes: 1 };

async function storeOf(t: Test) {
  const folder = await DataFolder.open({ log: silentLogger() }, { dir: t.testdir(), id: 'a' });
  const open = async (): Promise<RecordStore> => {
    const records = new RecordStore({ table: new LevelTable({ db: folder.db }) });
    await records.floors.load();
    return records;
  };
  const records = await open();
  return { records, open, [Symbol.asyncDispose]: async () => await folder.close() };
}

t.test('a floor outlives a start, and only grows', async (t) => {
  await using store = await storeOf(t);
  const { records, open } = store;
  const { floors } = records;
  await floors.promise(SHARD, 20);
  await floors.agree(SHARD, 10);
  await floors.promise(SHARD, 5);
  await floors.agree(SHARD, 3);
  t.same(floors.of(KEY), { promisedMs: 20, agreedMs: 10 });
  const again = await open();
  t.same(again.floors.of(KEY), { promisedMs: 20, agreedMs: 10 });
  t.same(again.floors.of(OTHER), { promisedMs: 0, agreedMs: 0 });
  t.same([...again.floors.list()], [[SHARD, { promisedMs: 20, agreedMs: 10 }]]);
  await again.floors.forget(SHARD);
  t.equal((await open()).floors.size, 0);
});

t.test('what is decided before a promise is durable with it; after it, nothing older is taken', async (t) => {
  await using store = await storeOf(t);
  const { records } = store;
  const { linkSet, floors } = records;
  const before = linkSet.putAll([{ key: KEY, atMs: 10, value }]);
  // Its turn comes when what it replaces was read.
  await new Promise((resolve) => setImmediate(resolve));
  const promised = floors.promise(SHARD, 10);
  const after = linkSet.putAll([{ key: [...SHARD, 'k2'], atMs: 10, value }]);
  const [[put], , [refused]] = await Promise.all([before, promised, after]);
  t.equal(refused?.behindMs, 10);
  t.equal((await linkSet.entry([...SHARD, 'k2']))?.value, undefined);
  t.equal(
    put?.behindMs === undefined,
    (await linkSet.entry(KEY))?.value !== undefined,
    'answered as it stands',
  );
  const [above] = await linkSet.putAll([{ key: [...SHARD, 'k2'], atMs: 11, value }]);
  t.same([above?.isNews, above?.behindMs], [true, undefined]);
});

t.test('tombstones below a floor go, and neither merges nor a backup bring anything back', async (t) => {
  await using store = await storeOf(t);
  const { records } = store;
  const { linkSet, floors, dump } = records;
  await linkSet.mergeAll([
    { key: KEY, atMs: 5, value: undefined },
    { key: [...SHARD, 'later'], atMs: 15, value: undefined },
    { key: [...SHARD, 'live'], atMs: 5, value },
    { key: OTHER, atMs: 5, value: undefined },
  ]);
  await floors.agree(SHARD, 10);
  const dead: (readonly string[])[] = [];
  for await (const one of linkSet.tombstones([])) if (one !== undefined) dead.push(one.key);
  t.equal(dead.length, 3, 'live ones are none');
  t.equal(await linkSet.dropAll(dead, mayGo), 1);
  t.equal(await linkSet.entry(KEY), undefined);
  t.same(await linkSet.mergeAll([{ key: KEY, atMs: 4, value }]), [false], 'an old message');
  t.same(
    await linkSet.mergeAll([{ key: KEY, atMs: 5, value: undefined }], 10),
    [false],
    'it would go at once',
  );
  const stored = { v: 1, atMs: 9, value };
  t.notOk(await dump.take('l1', { key: KEY.join('\0'), stored }, 100));
  t.equal((await linkSet.putAll([{ key: KEY, atMs: 9, value }]))[0]?.behindMs, 10);
  t.ok(await linkSet.covers({ key: KEY, atMs: 9, value }), 'of a former owner: it was deleted');
  t.notOk(await linkSet.covers({ key: KEY, atMs: 11, value }));
  t.same(
    await linkSet.mergeAll([{ key: KEY, atMs: 9, value }], 10),
    [true],
    'of one that agreed too: lost here',
  );
  t.same((await linkSet.entry([...SHARD, 'live']))?.value, value);
});

t.test('while a floor is taken over, nothing below it comes from elsewhere', async (t) => {
  await using store = await storeOf(t);
  const { records } = store;
  const { linkSet, floors } = records;
  await floors.takeOver(SHARD, { promisedMs: 30, agreedMs: 10 }, async () => {
    t.same(await linkSet.mergeAll([{ key: KEY, atMs: 4, value }], 9), [false]);
    t.equal((await linkSet.putAll([{ key: KEY, atMs: 30, value }]))[0]?.behindMs, 30);
    t.same(await linkSet.mergeAll([{ key: KEY, atMs: 4, value }], 10), [true]);
    await t.rejects(
      floors.takeOver(SHARD, { promisedMs: 30, agreedMs: 10 }, async () => undefined),
      { code: 'CONFLICT' },
    );
    t.equal(floors.of(SHARD).agreedMs, 0, 'it is nobody to believe yet');
  });
  t.same(floors.of(SHARD), { promisedMs: 30, agreedMs: 10 });
  await t.rejects(
    floors.takeOver(SHARD, { promisedMs: 40, agreedMs: 40 }, async () => {
      throw new RangeError('not all was taken');
    }),
    RangeError,
  );
  t.same(floors.of(SHARD), { promisedMs: 40, agreedMs: 10 });
  t.equal(floors.closedMs(SHARD), 10);
});

t.test('a collection buries what it saw', async (t) => {
  await using store = await storeOf(t);
  const { records } = store;
  const { linkSet, floors } = records;
  await linkSet.mergeAll([
    { key: KEY, atMs: 5, value },
    { key: OTHER, atMs: 5, value },
  ]);
  await floors.promise(SHARD, 10);
  const dead = [
    { key: KEY, atMs: 5 },
    { key: OTHER, atMs: 5 },
  ];
  t.same(await linkSet.buryAll(dead), [false, true]);
  await floors.agree(SHARD, 10);
  t.same(await linkSet.buryAll(dead), [true, false]);
  t.same((await linkSet.entry(KEY))?.atMs, 10.5);
});
