import { statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { CodedError } from '@sepia/base/errors';
import { LogLines } from '@sepia/test-support/log-lines';
import { until } from '@sepia/test-support/until';
import { VirtualTime } from '@sepia/test-support/virtual-time';
import t, { type Test } from 'tap';
import { DiskRoom, freeInodesOf } from '../src/disk-room.ts';
import { diskFiles, writeAll } from '../src/files/disk-files.ts';
import type { FilePort } from '../src/files/file-port.ts';

const MIB = 1024 * 1024;
const RESERVE = 64 * MIB;

interface SetUp {
  room: DiskRoom;
  log: LogLines;
  clock: { ms: number };
  disk: { free: number; freeInodes: number };
  dir: string;
}

async function setUp(t: Test, free: number): Promise<SetUp> {
  const log = new LogLines();
  const clock = { ms: 1_000 };
  const disk = { free, freeInodes: 1_000_000 };
  const dir = t.testdir();
  const deps = {
    selfId: 'o2',
    dir,
    log: log.logger,
    nowMs: () => clock.ms,
    freeBytes: async () => disk.free,
    freeInodes: async () => disk.freeInodes,
  };
  const room = new DiskRoom(deps);
  await room.start();
  t.teardown(() => room.stop());
  return { room, log, clock, disk, dir };
}

t.test('what does not fit beside the reserve is refused by name', async (t) => {
  const { room } = await setUp(t, RESERVE + 10 * MIB);
  room.check(10 * MIB);
  t.throws(() => room.check(10 * MIB + 1), {
    code: 'DISK_FULL',
    message: /origin o2/,
    detail: { origin: 'o2', neededBytes: 10 * MIB + 1 },
  });
  t.equal(room.isFull, false);
});

t.test('a disk at its reserve is full', async (t) => {
  const { room } = await setUp(t, RESERVE);
  t.equal(room.isFull, true);
  t.throws(() => room.check(0), { code: 'DISK_FULL', message: /^disk of origin o2 is full; make room, or/ });
  t.match(room.warnings, [/^the disk of .* is full \(64 MiB free\): no uploads, .*; make room, or/]);
});

t.test('large writes leave the reserve alone, small ones may use it', async (t) => {
  const { room, dir } = await setUp(t, RESERVE + MIB);
  // The disk is not asked again: what is written counts alone, however long that takes.
  room.stop();
  const file = await room.guard(diskFiles).open(join(dir, 'x'), 'create');
  await file.write(Buffer.alloc(MIB - 100_000), 0);
  t.equal(room.freeBytes, RESERVE + 100_000);
  await t.rejects(file.write(Buffer.alloc(100_001), MIB), { code: 'DISK_FULL', detail: { origin: 'o2' } });
  await file.write(Buffer.alloc(100_000), MIB);
  t.equal(room.freeBytes, RESERVE, 'all that is beside it');
  await file.write(Buffer.alloc(60_000), MIB);
  await file.write(Buffer.alloc(60_000), 2 * MIB);
  await file.close();
});

/** A disk that refuses what is opened on it. */
function refusing(system: string): FilePort {
  return {
    ...diskFiles,
    open: async () => {
      throw new CodedError('DISK_FULL', { detail: { system } });
    },
  };
}

t.test('a file that is too large for this process is refused, and nothing else', async (t) => {
  const { room, log, dir } = await setUp(t, 1024 * MIB);
  await t.rejects(room.guard(refusing('EFBIG')).open(join(dir, 'x'), 'create'), {
    code: 'DISK_FULL',
    message: /^origin o2 may write no file as large as this blob; raise its limit of file sizes \(ulimit -f/,
    detail: { origin: 'o2' },
  });
  t.equal(room.isFull, false);
  room.check(10 * MIB);
  t.same(log.lines, []);
});

t.test('a quota is told as one, whatever is free beside it', async (t) => {
  const { room, log, clock, disk, dir } = await setUp(t, 1024 * MIB);
  const files = room.guard(refusing('EDQUOT'));
  const message = /^disk of origin o2 has no room left within a quota, .*; raise it, or make room$/;
  await t.rejects(files.open(join(dir, 'x'), 'create'), { code: 'DISK_FULL', message });
  t.throws(() => room.check(1), { code: 'DISK_FULL', message });
  t.match(room.warnings, [/ has no room left within a quota, .*: no uploads, .*; raise it, or make room$/]);
  t.match(log.lines, [{ msg: /^disk has no room left within a quota, / }]);
  disk.free = RESERVE;
  await until(() => room.warnings[0]?.includes('is full (64 MiB free)') === true, 'the disk is full as well');
  disk.free = 1024 * MIB;
  clock.ms += 60_000;
  await until(() => !room.isFull, 'it is tried again');
});

t.test('a write that the disk refuses: full for a while, one line, and one when there is room', async (t) => {
  const { room, log, clock, dir } = await setUp(t, 1024 * MIB);
  const files = room.guard(refusing('ENOSPC'));
  for (let turn = 0; turn < 3; turn++)
    await t.rejects(files.open(join(dir, 'x'), 'create'), { code: 'DISK_FULL', detail: { origin: 'o2' } });
  t.equal(room.isFull, true);
  t.throws(() => room.check(1), { code: 'DISK_FULL' });
  clock.ms += 10_001;
  t.equal(room.isFull, false);
  room.check(1);
  await room.start();
  const lines = log.lines.map((line) => `${line['level']}: ${line['msg']}`);
  t.equal(lines.filter((line) => line.startsWith('error: disk is full')).length, 1);
  t.same(lines.at(-1), 'info: disk has room again');
});

t.test('a blob that is too large is told of once a minute', async (t) => {
  const { room, log, clock } = await setUp(t, RESERVE + MIB);
  for (let turn = 0; turn < 3; turn++) t.throws(() => room.require(2 * MIB), { code: 'DISK_FULL' });
  t.equal(log.lines.length, 1);
  clock.ms += 60_001;
  t.throws(() => room.require(2 * MIB), { code: 'DISK_FULL' });
  t.equal(log.lines.length, 2);
});

t.test('it is looked at each second while room is needed or lacks, else seldom', async (t) => {
  const time = new VirtualTime().install();
  t.teardown(() => time.uninstall());
  let looks = 0;
  let free = RESERVE + MIB;
  const room = new DiskRoom({
    ...{ selfId: 'o2', dir: '/', log: new LogLines().logger, nowMs: () => time.elapsedMs },
    freeBytes: async () => {
      looks += 1;
      return free;
    },
  });
  const looksIn = async (ms: number): Promise<number> => {
    const before = looks;
    await time.pass(ms);
    return looks - before;
  };
  await room.start();
  t.equal(await looksIn(60_000), 6);
  free = RESERVE + 3 * MIB;
  t.throws(() => room.check(2 * MIB), { code: 'DISK_FULL' }, 'what was known last');
  await time.pass(0);
  room.check(2 * MIB);
  t.equal(looks, 8, 'who needs room after a rest has it looked at at once');
  for (let second = 0; second < 5; second++) {
    t.equal(await looksIn(1_000), 1);
    room.check(1);
  }
  free = RESERVE;
  await time.pass(2_000);
  t.equal(room.isFull, true);
  t.equal(await looksIn(10_000), 10, 'while it is full it is waited for that it is not');
  free = RESERVE + MIB;
  await time.pass(1_000);
  t.equal(room.isFull, false);
  t.equal(await looksIn(60_000), 6);
  room.stop();
  t.equal(await looksIn(60_000), 0);
});

/** Files of a disk that refuses some calls, with the code that the system gives. */
class FailingDisk {
  /** What fails; undefined: nothing. */
  failing: { readonly call: 'write' | 'sync'; readonly system: string } | undefined;
  readonly port: FilePort;

  constructor() {
    const refuse = (call: 'write' | 'sync'): void => {
      if (this.failing?.call === call)
        throw Object.assign(new Error(this.failing.system), { code: this.failing.system });
    };
    const handle = {
      write: async (bytes: Uint8Array) => {
        refuse('write');
        return { bytesWritten: bytes.length };
      },
    };
    const file = {
      write: async (bytes: Uint8Array, at: number) => await writeAll(handle as never, 'x', bytes, at),
      sync: async () => {
        if (this.failing?.call === 'sync')
          throw new CodedError('DISK_FAILED', { detail: { system: this.failing.system } });
      },
    };
    this.port = { ...diskFiles, open: async () => file } as unknown as FilePort;
  }
}

t.test('a disk that takes no writes is told apart from a full one, until it takes one again', async (t) => {
  const { room, log, clock, dir } = await setUp(t, RESERVE + 10 * MIB);
  const disk = new FailingDisk();
  const files = room.guard(disk.port);
  const guarded = await files.open(join(dir, 'x'), 'update');
  disk.failing = { call: 'write', system: 'EROFS' };
  const failed = { code: 'DISK_FAILED', message: 'disk of origin o2 takes no writes (EROFS); look after it' };
  await t.rejects(guarded.write(Buffer.from('x'), 0), failed);
  t.throws(() => room.check(1), failed);
  t.ok(room.isFailing);
  t.match(room.warnings, [/takes no writes \(EROFS\)/]);
  clock.ms += 60_000;
  t.match(room.warnings, [/takes no writes/], 'it is not believed to be well because time passed');
  room.check(1);
  disk.failing = undefined;
  await guarded.write(Buffer.from('x'), 0);
  t.ok(room.isFailing, 'it may be in memory alone');
  await guarded.sync();
  t.notOk(room.isFailing);
  t.notOk(room.isFull);
  t.same(room.warnings, []);
  const said = log.lines.map(({ msg }) => msg);
  t.same(said, ['disk takes no writes (EROFS): other origins take them', 'disk takes writes again']);
});

t.test('a disk that fails when it is synced is not well because a file opens on it', async (t) => {
  const { room, log, clock, dir } = await setUp(t, RESERVE + 10 * MIB);
  const disk = new FailingDisk();
  const files = room.guard(disk.port);
  disk.failing = { call: 'sync', system: 'EIO' };
  for (let push = 0; push < 3; push++) {
    const file = await files.open(join(dir, `upload-${push}`), 'create');
    await file.write(Buffer.from('x'), 0);
    await t.rejects(file.sync(), { code: 'DISK_FAILED' });
    // What another request does meanwhile goes to memory.
    const other = await files.open(join(dir, 'other'), 'update');
    await other.write(Buffer.from('y'), 0);
    await files.makeFolder(dir);
    t.ok(room.isFailing);
    t.throws(() => room.check(1), { code: 'DISK_FAILED' }, 'the next push goes elsewhere');
    clock.ms += 10_001;
    room.check(1);
  }
  const idle = await files.open(join(dir, 'idle'), 'update');
  disk.failing = undefined;
  await idle.sync();
  t.ok(room.isFailing, 'nothing was written that it could have taken');
  t.equal(log.lines.length, 1);
});

t.test('a sync that began before a write was refused does not say that the disk takes writes', async (t) => {
  const { room, log, dir } = await setUp(t, RESERVE + 10 * MIB);
  const synced = Promise.withResolvers<void>();
  const slow = { write: async () => undefined, sync: async () => await synced.promise };
  const refusing = {
    write: async () => {
      throw new CodedError('DISK_FAILED', { detail: { system: 'EROFS' } });
    },
  };
  const open = async (path: string) => (path.endsWith('slow') ? slow : refusing);
  const files = room.guard({ ...diskFiles, open } as unknown as FilePort);
  const first = await files.open(join(dir, 'slow'), 'update');
  const other = await files.open(join(dir, 'other'), 'update');
  await first.write(Buffer.from('x'), 0);
  const syncing = first.sync();
  await t.rejects(other.write(Buffer.from('y'), 0), { code: 'DISK_FAILED' });
  synced.resolve();
  await syncing;
  t.ok(room.isFailing);
  await first.write(Buffer.from('z'), 1);
  await first.sync();
  t.notOk(room.isFailing);
  t.equal(log.lines.length, 2);
});

t.test('a disk without inodes is full, however many bytes are free, and says so', async (t) => {
  const { room, log, disk } = await setUp(t, 1024 * MIB);
  room.check(0);
  disk.freeInodes = 64;
  const warnings = [
    /^the disk of .* has no inodes left, however many bytes are free: no uploads, .*; remove files, or/,
  ];
  await until(() => room.isFull, 'it is looked at again');
  t.match(room.warnings, warnings);
  t.throws(() => room.check(0), { code: 'DISK_FULL', message: /^disk of origin o2 has no inodes left/ });
  t.match(log.lines, [{ level: 'error', msg: /^disk has no inodes left/ }]);
  disk.freeInodes = 65;
  await until(() => !room.isFull, 'it is looked at again');
});

t.test('a file system that makes inodes as it needs them lacks none', async (t) => {
  t.equal((await statfs('/proc')).ffree, 0);
  t.equal(await freeInodesOf('/proc'), Number.POSITIVE_INFINITY);
  t.ok((await freeInodesOf(t.testdir())) > 0);
});
