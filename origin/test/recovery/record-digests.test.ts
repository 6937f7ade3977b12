import { join } from 'node:path';
import { digestOf } from '@sepia/base/digest';
import { RecordStore } from '@sepia/records/store/record-store';
import type { Database } from '@sepia/store/data-folder';
import { Level } from 'level';
import t, { type Test } from 'tap';
import { RecordDigests } from '../../src/recovery/record-digests.ts';

const A = digestOf(Buffer.from('a'));
const MEMBERS = {
  selfId: 'o1',
  ids: ['o1', 'o2'],
  shard: () => ({ epoch: 0, sets: [['o1', 'o2']] }),
};

async function world(t: Test) {
  const db: Database = new Level<string, string>(join(t.testdir(), 'db'));
  await db.open();
  t.teardown(() => db.close());
  const records = new RecordStore({ db });
  const digests = new RecordDigests({ db, records, members: MEMBERS });
  /** What a count of all that is on the disk says. */
  const counted = async (): Promise<Record<string, string>> => {
    const anew = new RecordDigests({ db, records: new RecordStore({ db }), members: MEMBERS });
    await anew.scan();
    return anew.with('o2');
  };
  /** Runs `work` when the next write is on the disk, before anybody hears of it. */
  const inNextWrite = (work: () => void): void => {
    const batch = db.batch.bind(db) as (...args: unknown[]) => Promise<void>;
    const once = async (...args: unknown[]): Promise<void> => {
      await batch(...args);
      Object.assign(db, { batch });
      work();
    };
    Object.assign(db, { batch: once });
  };
  return { records, digests, counted, inNextWrite };
}

t.test('a write that is on the disk and not told yet when a count begins is counted once', async (t) => {
  const { records, digests, counted, inNextWrite } = await world(t);
  const link = { key: ['u', 'a/b', A], value: { mediaType: 'm' } };
  await digests.scan();
  await records.mergeLink({ ...link, atMs: 1 });
  t.same(digests.with('o2'), await counted());
  inNextWrite(() => digests.reset());
  await records.linkSet.merge({ ...link, atMs: 2, value: { mediaType: 'n' } });
  await digests.scan();
  t.same(digests.with('o2'), await counted(), 'one that was there changed');
  inNextWrite(() => digests.reset());
  await records.registers.handle({ type: 'prepare', key: 'k', ballot: { counter: 1, proposer: 'p' } });
  await digests.scan();
  t.same(digests.with('o2'), await counted(), 'one is new');
});

t.test('what is written while it counts is counted once, however often', async (t) => {
  const { records, digests, counted } = await world(t);
  for (let at = 1; at <= 3; at++) await records.jobSet.put(['replicate', 'u', 'a/b', `j${at}`], { at }, at);
  digests.reset();
  const written = [1, 2, 3].map(async (at) => {
    await records.jobSet.put(['replicate', 'u', 'a/b', `j${at}`], { at: -at }, 10);
    await records.jobSet.remove(['replicate', 'u', 'a/b', `j${at}`]);
    if (at > 1) await records.jobSet.put(['replicate', 'u', 'a/b', `j${at}`], { at }, 20);
  });
  await Promise.all(written);
  await digests.scan();
  t.same(digests.with('o2'), await counted());
});

t.test('half a count is not told; who waits for one waits for the last', async (t) => {
  const { records, digests, counted } = await world(t);
  await records.mergeLink({ key: ['u', 'a/b', A], atMs: 1, value: {} });
  t.throws(() => digests.with('o2'), { code: 'RECORDS_PENDING' });
  const first = digests.scan();
  digests.reset();
  t.throws(() => digests.with('o2'), { code: 'RECORDS_PENDING' });
  await first;
  t.same(digests.with('o2'), await counted());
});
