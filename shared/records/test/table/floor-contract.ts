import { digestOf } from '@sepia/base/digest';
import type { Test } from 'tap';
import { mayGo } from '../../src/core/floor.ts';
import { RecordStore } from '../../src/store/record-store.ts';
import type { Ground } from './contract.ts';

const A = digestOf(Buffer.from('a'));
const B = digestOf(Buffer.from('b'));

/** How tombstones go from a table. */
export async function floorContract(t: Test, ground: Ground): Promise<void> {
  await t.test('go below a floor, which each write looks at, whoever raised it', async (t) => {
    const table = await ground.open(t);
    const store = new RecordStore({ table });
    // Of a shared table one that knew of no floor when it began.
    const other = table.isShared ? new RecordStore({ table: await ground.again(t, table) }) : store;
    await other.floors.load();
    const dead = [A, B].map((digest) => ['u', 'a', digest]);
    const value = { sizeBytes: 1 };
    await store.linkSet.mergeAll(dead.map((key) => ({ key, atMs: 5, value: undefined })));
    await store.linkSet.put(['u', 'a', 'live'], value, 5);
    await store.linkSet.mergeAll(dead.map(([, , digest]) => ({ key: ['u', 'b', digest!], atMs: 5, value })));
    await store.floors.agree(['u', 'a'], 10);
    t.equal(await store.linkSet.dropAll(dead, mayGo), 2);
    t.same(await store.linkSet.entriesOf(dead), [undefined, undefined]);
    const [old, later, elsewhere] = await other.linkSet.putAll([
      { key: dead[0]!, atMs: 7, value },
      { key: dead[1]!, atMs: 11, value },
      { key: ['u', 'b', A], atMs: 7, value: { sizeBytes: 2 } },
    ]);
    t.match(old, { isNews: false, behindMs: 10 }, 'a write of an old clock takes a later one');
    t.match(later, { isNews: true, behindMs: undefined });
    t.match(elsewhere, { isNews: true, behindMs: undefined });
    t.notOk(
      await other.linkSet.merge({ key: dead[0]!, atMs: 7, value }),
      'what was deleted does not come back',
    );
    t.same(await other.linkSet.buryAll([{ key: ['u', 'a', 'live'], atMs: 5 }]), [true]);
    t.equal((await store.linkSet.entry(['u', 'a', 'live']))?.atMs, 10.5, 'above the floor');
  });
}
