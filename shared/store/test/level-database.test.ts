import { createHash } from 'node:crypto';
import {
  cpSync,
  readdirSync,
  readFileSync,
  renameSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { throwIfBug } from '@sepia/base/failure';
import { silentLogger } from '@sepia/base/log';
import { SEED, seeded } from '@sepia/test-support/seeded';
import t, { type Test } from 'tap';
import { type DatabaseWrite, LevelDatabase, openLevel } from '../src/level-database.ts';

const MIB = 1024 * 1024;
const NO_ROOM = 'IO error: 000003.log: No space left on device';

/** A database on a disk that fails as `disk` says, on a clock that is set by hand. */
async function world(t: Test) {
  const location = t.testdir();
  const level = await openLevel(location);
  t.teardown(() => level.close());
  const descriptors = { open: 100, limit: 1_024 };
  const disk = { fails: undefined as string | undefined, freeBytes: 1024 * MIB, opened: 0, opens: true };
  const time = { nowMs: 0 };
  const batch = level.batch.bind(level) as (...args: unknown[]) => Promise<void>;
  const open = level.open.bind(level);
  const files = Object.assign(level, {
    batch: async (...args: unknown[]) => {
      if (disk.fails !== undefined) throw Object.assign(new Error(disk.fails), { code: 'LEVEL_IO_ERROR' });
      await batch(...args);
    },
    open: async () => {
      if (!disk.opens) throw Object.assign(new Error('not open'), { code: 'LEVEL_DATABASE_NOT_OPEN' });
      disk.opened += 1;
      await open();
    },
  });
  const db = new LevelDatabase({
    log: silentLogger(),
    level: files,
    nowMs: () => time.nowMs,
    freeBytes: async () => disk.freeBytes,
    openFiles: () => descriptors,
  });
  return { db, disk, time, location, files: descriptors };
}

t.test('after a write that failed the database is opened anew before it takes another', async (t) => {
  const { db, disk } = await world(t);
  const heard: number[] = [];
  db.onReopen(() => heard.push(disk.opened));
  await db.put('a', '1');
  disk.fails = NO_ROOM;
  await t.rejects(db.put('b', '1'), { code: 'DISK_FULL' });
  t.match(db.warnings, [/found no room/]);
  t.ok(db.isTorn);
  t.equal(await db.get('a'), '1', 'what is there is read meanwhile');
  disk.fails = undefined;
  await db.put('c', '1');
  t.equal(disk.opened, 1);
  t.same(heard, [1]);
  t.same(db.warnings, []);
  t.same(await db.getMany(['a', 'b', 'c']), ['1', undefined, '1']);
  await db.put('d', '1');
  t.equal(disk.opened, 1, 'once');
});

t.test('no room: nothing is written, nothing is opened, and it is tried once a second', async (t) => {
  const { db, disk, time } = await world(t);
  disk.fails = NO_ROOM;
  await t.rejects(db.put('b', '1'), { code: 'DISK_FULL' });
  disk.fails = undefined;
  disk.freeBytes = MIB;
  await t.rejects(db.put('b', '1'), { code: 'DISK_FULL' });
  disk.freeBytes = 1024 * MIB;
  await t.rejects(db.put('b', '1'), { code: 'DISK_FULL' }, 'looked at a moment ago');
  t.equal(disk.opened, 0);
  time.nowMs += 1_000;
  await db.put('b', '1');
  t.equal(disk.opened, 1);
});

t.test('a disk that fails otherwise says so', async (t) => {
  const { db, disk } = await world(t);
  disk.fails = 'IO error: 000003.log: Input/output error';
  await t.rejects(db.put('b', '1'), { code: 'DISK_FAILED' });
  await t.rejects(db.put('b', '1'), { code: 'DISK_FAILED' });
});

t.test('a database that may open no file more says what to raise, and goes on when it may', async (t) => {
  const { db, disk, time } = await world(t);
  disk.fails = 'IO error: 000004.log: Too many open files';
  await t.rejects(db.put('b', '1'), {
    code: 'DISK_FAILED',
    message: /raise the limit of open files .*tried again$/,
  });
  disk.fails = undefined;
  time.nowMs += 1_000;
  await db.put('b', '1');
  t.same(db.warnings, []);
});

t.test('a write beside one that failed is not taken for stored', async (t) => {
  const { db, disk } = await world(t);
  const beside = db.put('a', '1');
  disk.fails = NO_ROOM;
  const failed = db.put('b', '1');
  const results = await Promise.allSettled([beside, failed]);
  t.same(
    results.map(({ status }) => status),
    ['rejected', 'rejected'],
  );
});

t.test('while it does not open anew it is read by nobody, and comes back', async (t) => {
  const { db, disk, time } = await world(t);
  await db.put('a', '1');
  disk.fails = NO_ROOM;
  await t.rejects(db.put('b', '1'), { code: 'DISK_FULL' });
  disk.fails = undefined;
  disk.opens = false;
  await t.rejects(db.put('b', '1'), { code: 'DISK_FULL' });
  await t.rejects(db.get('a'), { code: 'DISK_FULL' });
  await t.rejects(db.keys().next(), { code: 'DISK_FULL' });
  disk.opens = true;
  time.nowMs += 1_000;
  t.equal(await db.get('a'), '1');
  await db.put('b', '1');
});

t.test('a list that is being read ends before the database is opened anew', async (t) => {
  const { db, disk } = await world(t);
  for (let at = 0; at < 600; at++) await db.put(`k${String(at).padStart(4, '0')}`, '1');
  const list = db.iterator();
  await list.next();
  disk.fails = NO_ROOM;
  await t.rejects(db.put('b', '1'), { code: 'DISK_FULL' });
  disk.fails = undefined;
  const written = db.put('b', '1');
  let count = 1;
  for await (const _ of list) count += 1;
  t.equal(count, 600);
  await written;
  t.equal(disk.opened, 1);
});

t.test('ranges and limits are those of the database', async (t) => {
  const { db } = await world(t);
  await db.write(['a', 'b', 'c', 'd'].map((key) => ({ type: 'put', key, value: key })));
  const keys: string[] = [];
  for await (const key of db.keys({ gt: 'a', lte: 'd', limit: 2 })) keys.push(key);
  t.same(keys, ['b', 'c']);
  await db.write([{ type: 'del', key: 'b' }]);
  t.equal(await db.get('b'), undefined);
});

/** A database in memory whose log loses its end at a power loss: all behind the last batch that was synced. */
function volatileLevel() {
  const now = new Map<string, string>();
  let synced = new Map<string, string>();
  const level = {
    location: 'memory',
    batch: async (writes: readonly DatabaseWrite[], options?: { readonly sync?: boolean }) => {
      for (const write of writes)
        if (write.type === 'put') now.set(write.key, write.value);
        else now.delete(write.key);
      if (options?.sync === true) synced = new Map(now);
    },
  };
  return { level, afterPowerLoss: () => [...synced.keys()] };
}

t.test('what a write acknowledged is there after a power loss', async (t) => {
  const { level, afterPowerLoss } = volatileLevel();
  const db = new LevelDatabase({
    log: silentLogger(),
    level: level as unknown as Awaited<ReturnType<typeof openLevel>>,
    nowMs: () => 0,
  });
  await db.put('a', '1');
  t.same(afterPowerLoss(), ['a']);
  await db.write([
    { type: 'put', key: 'b', value: '2' },
    { type: 'del', key: 'a' },
  ]);
  t.same(afterPowerLoss(), ['b']);
});

t.test('a value that was changed on disk is never read as another', async (t) => {
  const dir = t.testdir();
  const level = await openLevel(dir);
  t.teardown(() => level.close());
  const db = new LevelDatabase({ log: silentLogger(), level, nowMs: () => 0 });
  await db.put('tag', '{"digest":"aa"}');
  await db.put('other', '{"digest":"cc"}');
  await level.put('old', '{"digest":"dd"}');
  t.equal(await db.get('old'), '{"digest":"dd"}', 'a version without checks wrote it');
  const stored = (await level.get('tag'))!;
  const moved = (await level.get('other'))!;
  for (const wrong of [stored.replace('aa', 'ab'), moved, stored.slice(0, -1), stored.slice(0, 3)]) {
    await level.put('tag', wrong);
    const snapshot = db.snapshot();
    await t.rejects(db.get('tag'), { code: 'DISK_CORRUPT', detail: { key: 'tag' } });
    await t.rejects(db.getMany(['other', 'tag']), { code: 'DISK_CORRUPT' });
    const list = async (): Promise<void> => {
      for await (const [key] of db.iterator()) t.ok(key);
    };
    await t.rejects(list(), { code: 'DISK_CORRUPT' });
    t.throws(() => db.getSync('tag', { snapshot }), { code: 'DISK_CORRUPT' });
    await snapshot.close();
  }
  t.match(db.warnings, [/damaged: .*16 reads.*restart this member/]);
  t.notOk(db.isTorn, 'writes go on');
  await db.put('tag', '{"digest":"ee"}');
  t.equal(await db.get('tag'), '{"digest":"ee"}', 'written anew it is right');
});

t.test('damage of the files of a database is an error or nothing, never another value', async (t) => {
  const dir = t.testdir();
  const base = join(dir, 'db');
  const written = new Map<string, string>();
  for (let n = 0; n < 1_000; n += 1) {
    const key = `tag ${String(n).padStart(6, '0')}`;
    written.set(key, JSON.stringify({ digest: createHash('sha256').update(key).digest('hex'), n }));
  }
  const first = await openLevel(base);
  const db = new LevelDatabase({ log: silentLogger(), level: first, nowMs: () => 0 });
  await db.write([...written].map(([key, value]) => ({ type: 'put', key, value })));
  await db.close();
  // What the log holds goes into tables when it is opened again.
  await (await openLevel(base)).close();
  const tables = readdirSync(base).filter((name) => name.endsWith('.ldb'));
  t.ok(tables.length > 0, 'values rest in tables');
  const chance = seeded(SEED);
  let found = 0;
  for (let run = 0; run < 40; run++) {
    const copy = join(dir, `copy-${run}`);
    cpSync(base, copy, { recursive: true });
    const table = join(copy, tables[run % tables.length]!);
    const bytes = readFileSync(table);
    bytes[Math.floor(chance() * bytes.length)]! ^= 1 << Math.floor(chance() * 8);
    writeFileSync(table, bytes);
    try {
      const level = await openLevel(copy);
      t.teardown(() => level.close());
      const hurt = new LevelDatabase({ log: silentLogger(), level, nowMs: () => 0 });
      for await (const [key, value] of hurt.iterator())
        if (written.get(key) !== value) t.fail(`run ${run}: ${key} is ${value}`);
    } catch (error) {
      throwIfBug(error);
      found += 1;
    }
  }
  t.ok(found > 10, `${found} of 40 were found`);
});

t.test('it is not opened anew while there are hardly any descriptors, and is read meanwhile', async (t) => {
  const { db, disk, time, files } = await world(t);
  await db.put('a', '1');
  disk.fails = 'IO error: 000004.log: Too many open files';
  await t.rejects(db.put('b', '1'), { code: 'DISK_FAILED' });
  disk.fails = undefined;
  files.open = files.limit - 5;
  await t.rejects(db.put('b', '1'), { code: 'DISK_FAILED', message: /raise the limit of open files/ });
  t.equal(disk.opened, 0);
  t.equal(await db.get('a'), '1');
  files.open = 100;
  time.nowMs += 1_000;
  await db.put('b', '1');
  t.equal(disk.opened, 1);
});

t.test('a log that cannot be read is not passed over: it stays closed until it can', async (t) => {
  const { db, disk, time, location } = await world(t);
  await db.put('a', '1');
  const log = join(location, readdirSync(location).find((name) => name.endsWith('.log'))!);
  disk.fails = 'IO error: 000004.log: Input/output error';
  await t.rejects(db.put('b', '1'), { code: 'DISK_FAILED' });
  disk.fails = undefined;
  renameSync(log, `${log}.kept`);
  symlinkSync(log, log);
  await t.rejects(db.put('b', '1'), { code: 'DISK_FAILED' });
  unlinkSync(log);
  renameSync(`${log}.kept`, log);
  time.nowMs += 1_000;
  t.equal(await db.get('a'), '1', 'nothing is lost');
  await db.put('b', '1');
});
