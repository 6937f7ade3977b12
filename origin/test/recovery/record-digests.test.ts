import { digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import { RecordStore } from '@sepia/records/store/record-store';
import { LevelTable } from '@sepia/records/table/level-table';
import { DataFolder } from '@sepia/store/data-folder';
import t, { type Test } from 'tap';
import { RecordDigests } from '../../src/recovery/record-digests.ts';

const A = digestOf(Buffer.from('a'));
const MEMBERS = {
  selfId: 'o1',
  ids: ['o1', 'o2'],
  shard: () => ({ epoch: 0, sets: [['o1', 'o2']] }),
};

async function world(t: Test) {
  const folder = await DataFolder.open({ log: silentLogger() }, { dir: t.testdir(), id: 'o1' });
  const { db } = folder;
  const records = new RecordStore({ table: new LevelTable({ db }) });
  const digests = new RecordDigests({ db, records, members: MEMBERS });
  /** What a count of all that is on the disk says. */
  const anew = async (): Promise<RecordDigests> => {
    const records = new RecordStore({ table: new LevelTable({ db }) });
    const one = new RecordDigests({ db, records, members: MEMBERS });
    await one.scan();
    return one;
  };
  const counted = async (): Promise<Record<string, string>> => (await anew()).with('o2');
  /** Runs `work` when the next write is on the disk, before anybody hears of it. */
  const inNextWrite = (work: () => void): void => {
    const write = db.write.bind(db) as (...args: unknown[]) => Promise<void>;
    const once = async (...args: unknown[]): Promise<void> => {
      await write(...args);
      Object.assign(db, { write });
      work();
    };
    Object.assign(db, { write: once });
  };
  return { folder, records, digests, anew, counted, inNextWrite };
}

t.test('a write that is on the disk and not told yet when a count begins is counted once', async (t) => {
  const { folder, records, digests, counted, inNextWrite } = await world(t);
  await using _ = folder;
  const link = { key: ['u', 'a/b', A], value: { mediaType: 'm' } };
  const begin = async (): Promise<void> => {
    digests.reset();
    await digests.scan();
  };
  await digests.scan();
  await records.mergeLink({ ...link, atMs: 1 });
  t.same(digests.with('o2'), await counted());
  inNextWrite(() => void begin());
  await records.linkSet.merge({ ...link, atMs: 2, value: { mediaType: 'n' } });
  await digests.scan();
  t.same(digests.with('o2'), await counted(), 'one that was there changed');
  inNextWrite(() => void begin());
  await records.registers.handle({ type: 'prepare', key: 'k', ballot: { counter: 1, proposer: 'p' } });
  await digests.scan();
  t.same(digests.with('o2'), await counted(), 'one is new');
});

t.test('what is written while it counts is counted once, however often', async (t) => {
  const { folder, records, digests, counted } = await world(t);
  await using _ = folder;
  for (let at = 1; at <= 3; at++) await records.jobSet.put(['replicate', 'u', 'a/b', `j${at}`], { at }, at);
  digests.reset();
  const counting = digests.scan();
  const written = [1, 2, 3].map(async (at) => {
    await records.jobSet.put(['replicate', 'u', 'a/b', `j${at}`], { at: -at }, 10);
    await records.jobSet.remove(['replicate', 'u', 'a/b', `j${at}`]);
    if (at > 1) await records.jobSet.put(['replicate', 'u', 'a/b', `j${at}`], { at }, 20);
  });
  await Promise.all([counting, ...written]);
  t.same(digests.with('o2'), await counted());
});

t.test(
  'what was promised about memberships belongs to a clean stop, and is compared with nobody',
  async (t) => {
    const { folder, records, digests, anew } = await world(t);
    await using _ = folder;
    await records.mergeLink({ key: ['u', 'a/b', A], atMs: 1, value: {} });
    await digests.scan();
    const [whole, told] = [digests.whole, digests.with('o2')];
    await records.agreements.handle({ type: 'prepare', key: '1', ballot: { counter: 1, proposer: 'p' } });
    t.not(digests.whole, whole);
    t.same(digests.with('o2'), told);
    t.equal((await anew()).whole, digests.whole, 'counted the same at the next start');
  },
);

t.test('a write that the disk refuses while it counts does not end the count', async (t) => {
  const { folder, records, digests, counted, inNextWrite } = await world(t);
  await using _ = folder;
  await records.mergeLink({ key: ['u', 'a/b', A], atMs: 1, value: {} });
  inNextWrite(() => {
    throw new Error('no space left');
  });
  await digests.scan();
  t.same(digests.with('o2'), await counted());
});

t.test('half a count is not told; who waits for one waits for the last', async (t) => {
  const { folder, records, digests, counted } = await world(t);
  await using _ = folder;
  await records.mergeLink({ key: ['u', 'a/b', A], atMs: 1, value: {} });
  t.throws(() => digests.with('o2'), { code: 'RECORDS_PENDING' });
  const first = digests.scan();
  digests.reset();
  t.throws(() => digests.with('o2'), { code: 'RECORDS_PENDING' });
  await first;
  t.same(digests.with('o2'), await counted());
});

t.test('a count that failed is begun again by the next who asks', async (t) => {
  const { folder, records, digests, counted } = await world(t);
  await using _ = folder;
  await records.mergeLink({ key: ['u', 'a/b', A], atMs: 1, value: {} });
  const { db } = folder;
  const iterator = db.iterator.bind(db);
  const failing = (): never => {
    throw new CodedError('DISK_FAILED');
  };
  Object.assign(db, { iterator: failing });
  await t.rejects(digests.scan(), { code: 'DISK_FAILED' });
  t.throws(() => digests.with('o2'), { code: 'RECORDS_PENDING' });
  Object.assign(db, { iterator });
  await digests.scan();
  t.same(digests.with('o2'), await counted());
});
