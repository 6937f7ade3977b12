import { digestOf } from '@sepia/base/digest';
import { silentLogger } from '@sepia/base/log';
import { RecordStore } from '@sepia/records/store/record-store';
import { LevelTable } from '@sepia/records/table/level-table';
import { DataFolder } from '@sepia/store/data-folder';
import t from 'tap';
import { type Hint, Hints } from '../../src/blobs/hints.ts';

function hint(at: number, target = 'o2'): Hint {
  return { digest: digestOf(Buffer.from(String(at))), target, upstream: 'local', repository: 'a' };
}

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

t.test('copies that were made leave nothing on the disk; what is owed survives a restart', async (t) => {
  const dir = t.testdir();
  const folder = await DataFolder.open({ log: silentLogger() }, { dir, id: 'o1' });
  const records = new RecordStore({ table: new LevelTable({ db: folder.db }) });
  const hints = new Hints({ records, log: silentLogger(), nowMs: () => 1 });
  const keys = async (): Promise<number> =>
    (await collect(folder.db.keys())).filter((key) => key.startsWith('j1')).length;
  for (let at = 0; at < 20; at++) {
    await hints.add(hint(at));
    if (at > 0) hints.done(hint(at));
  }
  t.same(await hints.all(), [hint(0)]);
  t.notOk(await hints.owes(hint(1).digest), 'what was made is owed no more, though it is still on the disk');
  hints.done(hint(0));
  await hints.add(hint(0));
  await hints.settle();
  t.equal(await keys(), 1);
  t.same(await hints.all(), [hint(0)]);
  t.ok(await hints.owes(hint(0).digest));
  t.notOk(await hints.owes(hint(1).digest));

  // What earlier versions left: a tombstone for each copy.
  for (let at = 100; at < 1_200; at++) await records.jobSet.delete(['copy', hint(at).digest, 'o2'], 1);
  await records.jobSet.put(['replicate', 'x'], { other: 'queue' }, 1);
  const after = new Hints({ records, log: silentLogger(), nowMs: () => 2 });
  t.same(await after.all(), [hint(0)]);
  t.equal(await keys(), 2, 'they are taken off the disk, the other queue is left alone');
  await records.close();
  await folder.close();
});

t.test('what is owed already is not written again, but for another repository', async (t) => {
  const folder = await DataFolder.open({ log: silentLogger() }, { dir: t.testdir(), id: 'o1' });
  const records = new RecordStore({ table: new LevelTable({ db: folder.db }) });
  let nowMs = 1;
  const hints = new Hints({ records, log: silentLogger(), nowMs: () => nowMs++ });
  const clocks = async (): Promise<number[]> =>
    (await collect(records.jobSet.entries(['copy']))).map(({ atMs }) => atMs);
  await hints.add(hint(1));
  await hints.add(hint(1), hint(2));
  t.same((await clocks()).sort(), [1, 2]);
  await hints.add({ ...hint(1), repository: 'b' });
  t.same((await clocks()).sort(), [2, 3]);
  hints.done(hint(1));
  await hints.add(hint(1));
  t.same((await clocks()).sort(), [2, 4], 'one that was made is owed anew');
  await records.close();
  await folder.close();
});

t.test('more than is held in memory waits on the disk, and comes in its turn', async (t) => {
  const folder = await DataFolder.open({ log: silentLogger() }, { dir: t.testdir(), id: 'o1' });
  const records = new RecordStore({ table: new LevelTable({ db: folder.db }) });
  const hints = new Hints({ records, log: silentLogger(), nowMs: () => 1 }, { maxKnown: 100 });
  const all = Array.from({ length: 120 }, (_, at) => hint(at));
  await Promise.all(all.map((one) => hints.add(one)));
  t.equal(hints.size, 100);
  const seen = new Set<string>();
  for (let owed = await hints.all(); owed.length > 0; owed = await hints.all()) {
    for (const one of owed) seen.add(one.digest);
    for (const one of owed) hints.done(one);
  }
  t.equal(seen.size, 120);
  await hints.settle();
  await records.close();
  await folder.close();
});

t.test('the copy of one upstream does not end what is owed in the name of another', async (t) => {
  const folder = await DataFolder.open({ log: silentLogger() }, { dir: t.testdir(), id: 'o1' });
  const records = new RecordStore({ table: new LevelTable({ db: folder.db }) });
  const open = (): Hints => new Hints({ records, log: silentLogger(), nowMs: () => 1 });
  const [first, second] = [hint(0), { ...hint(0), upstream: 'harbor' }];
  const hints = open();
  await hints.add(first);
  await hints.add(second);
  hints.done(first);
  t.same(await hints.all(), [second]);
  t.ok(await hints.owes(first.digest));
  await hints.settle();
  t.same(await open().all(), [second], 'nor on the disk');
  hints.done(second);
  await hints.settle();
  t.same(await open().all(), []);

  // An earlier version knew them by digest and target.
  await records.jobSet.put(['copy', first.digest, first.target], first, 1);
  const after = open();
  t.ok(await after.owes(first.digest));
  t.same(await after.all(), [first]);
  after.done(first);
  await after.settle();
  t.same(await open().all(), []);
  t.same(await collect(records.jobSet.entries(['copy'])), []);
  await records.close();
  await folder.close();
});

t.test('a copy that is owed again while what was made goes off the disk stays on it', async (t) => {
  const folder = await DataFolder.open({ log: silentLogger() }, { dir: t.testdir(), id: 'o1' });
  const records = new RecordStore({ table: new LevelTable({ db: folder.db }) });
  const { jobSet } = records;
  let again: Promise<void> | undefined;
  const watched = {
    mergeAll: jobSet.mergeAll.bind(jobSet),
    remove: async (...keys: readonly (readonly string[])[]) => {
      again ??= hints.add(hint(599));
      await again;
      await jobSet.remove(...keys);
    },
  };
  const deps = { log: silentLogger(), nowMs: () => 1 };
  const hints = new Hints({ ...deps, records: { jobSet: watched } as never });
  const all = Array.from({ length: 600 }, (_, at) => hint(at));
  await hints.add(...all);
  for (const one of all) hints.done(one);
  await hints.settle();
  t.same(await new Hints({ ...deps, records }).all(), [hint(599)]);
  await records.close();
  await folder.close();
});
