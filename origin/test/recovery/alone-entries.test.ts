import { silentLogger } from '@sepia/base/log';
import { RecordStore } from '@sepia/records/store/record-store';
import { LevelTable } from '@sepia/records/table/level-table';
import { DataFolder } from '@sepia/store/data-folder';
import t from 'tap';
import { AloneEntries } from '../../src/recovery/alone-entries.ts';
import { startCluster } from '../support/cluster.ts';
import { pushTag, untilNothingOwed } from '../support/images.ts';

const OWNERS = ['o1', 'o2', 'o3'];

t.test('any number of entries is remembered until all others were asked', async (t) => {
  await using folder = await DataFolder.open({ log: silentLogger() }, { dir: t.testdir(), id: 'o1' });
  const records = new RecordStore({ table: new LevelTable({ db: folder.db }) });
  const digests = { bucketOf: () => ({ owners: OWNERS, name: 'one' }) };
  const alone = new AloneEntries({ records, digests, selfId: 'o1' });
  const keys = Array.from({ length: 2_500 }, (_, index) => `local\0team/app\0${index}`);
  const found = async (witnesses = OWNERS): Promise<string[]> => {
    const all: string[] = [];
    for await (const some of alone.found(witnesses))
      for (const { space, key } of some) all.push(`${space}\0${key}`);
    return all.sort();
  };
  await alone.note('o2', 'l1', keys);
  t.same(await found(), [], 'the third was not asked');
  await alone.note('o3', 'l1', keys.slice(1));
  await alone.note('o3', 'f1', keys.slice(0, 1));
  await alone.forget('o3');
  t.same(await found(), [], 'the third is asked anew');
  await alone.note('o3', 'l1', keys.slice(1));
  const gone = keys
    .slice(1)
    .map((key) => `l1\0${key}`)
    .sort();
  t.same(await found(['o2']), [], 'the third was another one meanwhile');
  t.same(await found(), gone);
  t.same(await found(), [], 'not said twice');
  await alone.forget();
  await alone.note('o3', 'l1', keys);
  t.same(await found(), [], 'nothing of before counts');
  await records.close();
});

t.test('an origin that does not count hands its sets over, and is no source of repair', async (t) => {
  const c = await startCluster(t, { origins: 3, config: 'compare-every: 1s' });
  await pushTag(c, 'o1', 'team/app', 'v1');
  await untilNothingOwed(c);
  // Without the third it waits: nobody can tell yet whether its folder is an old one.
  await c.stop('o3');
  await c.stop('o1');
  const key = `local\0team/app\0sha256:${'0'.repeat(64)}`;
  {
    await using folder = await DataFolder.open({ log: silentLogger() }, { dir: c.dataOf('o1'), id: 'o1' });
    await folder.db.write([
      { type: 'put', key: `l1\0${key}`, value: JSON.stringify({ v: 1, atMs: 1, value: {} }) },
    ]);
  }
  await c.start('o1');
  const path = '/v1/sync/page';
  const buckets = Array.from({ length: 64 }, (_, part) => `${OWNERS.join(',')}#${part}`);
  const keysFor = async (how: string): Promise<string[]> => {
    const body = JSON.stringify({ with: 'o2', space: 'l1', buckets, how });
    const headers = { 'content-type': 'application/json' };
    const { status, bytes } = await c.call('o1', { method: 'POST', path, headers, body });
    t.equal(status, 200);
    const { entries } = JSON.parse(bytes.toString()) as { entries: { key: string }[] };
    return entries.map((entry) => entry.key);
  };
  t.ok((await keysFor('handover')).includes(key));
  t.same(await keysFor('repair'), []);
  await c.start('o3');
  await c.origins.get('o1')!.whenSettled();
  t.ok((await keysFor('repair')).length > 0, 'once it counts, it is one');
});
