import { join } from 'node:path';
import { isCoded } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import { RecordStore } from '@sepia/records/store/record-store';
import { LevelTable } from '@sepia/records/table/level-table';
import { DataFolder } from '@sepia/store/data-folder';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { emptyDisk, fillDisk, mountSmallDisk, unmountSmallDisk } from '../../torture/disks.ts';

const LOG = { log: silentLogger() };
/** Larger than one block of the database's log: a part of it is on the disk when it fails. */
const VALUE = { text: 'v'.repeat(40_000) };

/** What `puts` said was stored, and why the first of the others was not. */
async function putAll(records: RecordStore, name: string): Promise<{ stored: string[]; failure: unknown }> {
  const stored: string[] = [];
  let failure: unknown;
  for (let at = 0; at < 30; at++) {
    const id = `${name}${at}`;
    try {
      await records.jobSet.put(['replicate', 'u', 'a/b', id], VALUE, 1);
      stored.push(id);
    } catch (error) {
      if (!isCoded(error)) throw error;
      failure ??= error;
    }
  }
  return { stored, failure };
}

/** What was stored by the word of `records`, and what of it the next start no longer has. */
async function lostOn(disk: string): Promise<{ readonly stored: number; readonly lost: string[] }> {
  const stored: string[] = [];
  const options = { dir: join(disk, 'data'), id: 'o1' };
  {
    await using folder = await DataFolder.open(LOG, options);
    const records = new RecordStore({ table: new LevelTable({ db: folder.db }) });
    stored.push(...(await putAll(records, 'before')).stored);
    fillDisk(disk);
    const full = await putAll(records, 'full');
    if (!isCoded(full.failure, 'DISK_FULL')) throw new Error('the disk was not full');
    stored.push(...full.stored);
    emptyDisk(disk);
    await until(async () => (await putAll(records, 'try')).failure === undefined, 'it takes records again');
    stored.push(...(await putAll(records, 'after')).stored);
  }
  await using folder = await DataFolder.open(LOG, options);
  const { jobSet } = new RecordStore({ table: new LevelTable({ db: folder.db }) });
  const lost: string[] = [];
  for (const id of stored) if (!(await jobSet.has(['replicate', 'u', 'a/b', id]))) lost.push(id);
  return { stored: stored.length, lost };
}

t.test('a record that was taken after the disk was full is there after the next start', async (t) => {
  const disk = t.testdir();
  if (!mountSmallDisk(disk)) return void t.comment('left out: nothing can be mounted');
  try {
    const { stored, lost } = await lostOn(disk);
    t.ok(stored >= 60, `${stored} were taken`);
    t.same(lost, []);
  } finally {
    unmountSmallDisk(disk);
  }
});
