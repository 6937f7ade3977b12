import { digestOf } from '@sepia/base/digest';
import { silentLogger } from '@sepia/base/log';
import { RecordStore } from '@sepia/records/store/record-store';
import { LevelTable } from '@sepia/records/table/level-table';
import { DataFolder } from '@sepia/store/data-folder';
import { until } from '@sepia/test-support/until';
import t, { type Test } from 'tap';
import { startCluster, type TestCluster } from './support/cluster.ts';

/** Pushes of a long history: each left two tombstones in the queue of owed copies, in earlier versions. */
const PUSHES = Number(process.env['SEPIA_IDLE_PUSHES'] ?? 8_000);
/** Links that stay. */
const LINKS = 2_000;
const AT_ONCE = 2_000;
/** For so long the work of idle members is counted, in ms; more makes the count only surer. */
const COUNTED_MS = 10_000;
/** After so long without long reads the start is over, in ms. */
const QUIET_MS = 3_000;
const QUIET_ROWS = 100;
/** What all members of the test together may do in a minute. */
const MOST = { calls: 600, rows: 1_000, timers: 2_000 };

type Work = Record<keyof typeof MOST, number>;

/** Counts what is asked of records, the rows that are read, and the timers that are set, in this process. */
function countWork(t: Test): Work {
  const work: Work = { calls: 0, rows: 0, timers: 0 };
  const table = LevelTable.prototype;
  const real = { entries: table.entries, keys: table.keys };
  async function* counted<T>(rows: AsyncIterable<T>): AsyncIterable<T> {
    work.calls += 1;
    for await (const row of rows) {
      work.rows += 1;
      yield row;
    }
  }
  table.entries = function entries(range) {
    return counted(real.entries.call(this, range));
  };
  table.keys = function keys(range) {
    return counted(real.keys.call(this, range));
  };
  const gets = { get: table.get, getMany: table.getMany, change: table.change };
  for (const [name, get] of Object.entries(gets))
    Object.assign(table, {
      [name]: function count(this: LevelTable, ...args: unknown[]): unknown {
        work.calls += 1;
        return Reflect.apply(get, this, args);
      },
    });
  const timers = { setTimeout: globalThis.setTimeout, setInterval: globalThis.setInterval };
  globalThis.setTimeout = Object.assign((...args: Parameters<typeof setTimeout>) => {
    work.timers += 1;
    return timers.setTimeout(...args);
  }, timers.setTimeout);
  globalThis.setInterval = Object.assign((...[run, ms, ...args]: Parameters<typeof setInterval>) => {
    const each = (): void => {
      work.timers += 1;
      (run as (...args: unknown[]) => void)(...args);
    };
    return timers.setInterval(each, ms);
  }, timers.setInterval);
  t.teardown(() => {
    Object.assign(table, real, gets);
    Object.assign(globalThis, timers);
  });
  return work;
}

/** Writes to the folder of an origin that is off: tombstones of copies that were owed to others, and links. */
async function withHistory(c: TestCluster, id: string): Promise<void> {
  const folder = await DataFolder.open({ log: silentLogger() }, { dir: c.dataOf(id), id });
  const records = new RecordStore({ table: new LevelTable({ db: folder.db }) });
  const digest = (at: number): string => digestOf(Buffer.from(`blob ${at}`));
  const first = digest(0);
  for (const target of ['o2', 'o3']) await records.jobSet.delete(['copy', first, target], 1);
  await records.linkSet.put(['local', 'old/app', first], {} as never, 1);
  const rows: (readonly [string, string])[] = [];
  for await (const row of folder.db.iterator()) if (row[0].includes(first)) rows.push(row);
  // As these say of one push, so the rest of them.
  const write = async (count: number, some: typeof rows): Promise<void> => {
    for (let at = 1; at < count; at += AT_ONCE) {
      const digests = Array.from({ length: Math.min(AT_ONCE, count - at) }, (_, index) => digest(at + index));
      await folder.db.write(
        digests.flatMap((one) =>
          some.map(([key, value]) => ({ type: 'put' as const, key: key.replace(first, one), value })),
        ),
      );
    }
  };
  await write(
    PUSHES,
    rows.filter(([key]) => key.startsWith('j1')),
  );
  await write(
    LINKS,
    rows.filter(([key]) => key.startsWith('l1')),
  );
  await records.close();
  await folder.close();
}

t.test('an idle member does a bounded amount of work, whatever its history', async (t) => {
  const work = countWork(t);
  const c = await startCluster(t, { origins: 3 });
  for (const id of c.ids) await c.stop(id);
  await withHistory(c, 'o1');
  for (const id of c.ids) await c.start(id);
  await Promise.all([...c.origins.values()].map(async (origin) => await origin.whenSettled()));
  // What is left of the history is taken off the disk once; then it is as if there had been none.
  await until(
    async () => {
      const { rows } = work;
      await new Promise((resolve) => setTimeout(resolve, QUIET_MS));
      return work.rows - rows < QUIET_ROWS;
    },
    'nothing is read from end to end any more',
    120_000,
  );
  t.ok(work.rows > PUSHES, 'the history was read once');
  const before = { ...work };
  const startedMs = performance.now();
  await new Promise((resolve) => setTimeout(resolve, COUNTED_MS));
  const minutes = (performance.now() - startedMs) / 60_000;
  for (const [what, most] of Object.entries(MOST)) {
    const found = (work[what as keyof Work] - before[what as keyof Work]) / minutes;
    t.ok(found <= most, `${what}: ${Math.round(found)} a minute, of ${most}`);
  }
});
