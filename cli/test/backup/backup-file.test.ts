import { createHash } from 'node:crypto';
import fs, { readFileSync, writeFileSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { join } from 'node:path';
import { isCoded } from '@sepia/base/errors';
import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { type BackupFrame, BackupWriter, readFrames } from '../../src/backup/backup-file.ts';
import { checkWhole } from '../../src/backup/restore.ts';

const BOX = { interruptAfterTimeLimit: 4_000, markInterruptAsFailure: false };
const HEAD: BackupFrame = {
  type: 'head',
  version: 1,
  createdAtMs: 1,
  clusterVersion: 1,
  upstreams: ['local'],
};
const END: BackupFrame = { type: 'end', n: 0, counts: {} };

/** Null if the file is read whole, else the code; anything uncoded is thrown on. */
function codeOf(file: string): string | null {
  try {
    let frames = 0;
    for (const { frame } of readFrames(file)) if (frame.type !== 'head') frames += 1;
    return frames > 0 ? null : 'EMPTY';
  } catch (error) {
    if (isCoded(error)) return error.code;
    throw error;
  }
}

/** Frames of any payloads, each with its right length and checksum. */
function framed(payloads: readonly Uint8Array[]): Buffer {
  const parts = payloads.flatMap((payload) => {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(payload.length);
    return [length, createHash('sha256').update(payload).digest(), payload];
  });
  return Buffer.concat([Buffer.from('SEPIABK1'), ...parts]);
}

t.test('fuzz: a file of anything is refused with a code', async (t) => {
  const file = join(t.testdir(), 'any');
  const payload = fc.oneof(
    fc.uint8Array({ maxLength: 60 }),
    fc.json({ maxDepth: 2 }).map((text) => Buffer.from(text)),
    fc
      .constantFrom(HEAD, END, { ...HEAD, version: 9 }, { ...END, n: -1 })
      .map((one) => Buffer.from(JSON.stringify(one))),
  );
  const files = fc.oneof(
    fc.uint8Array({ maxLength: 200 }),
    fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.concat([Buffer.from('SEPIABK1'), bytes])),
    fc.array(payload, { maxLength: 4 }).map(framed),
  );
  fc.assert(
    fc.property(files, (bytes) => {
      writeFileSync(file, bytes);
      const code = codeOf(file);
      return code === 'DISK_CORRUPT' || code === 'DISK_FORMAT' || code === null;
    }),
    BOX,
  );
  t.pass('none was not');
});

t.test('any one byte that is changed, cut or added is found', async (t) => {
  const file = join(t.testdir(), 'backup');
  const writer = BackupWriter.create(file);
  const entries = [{ key: 'k', stored: { a: 1 } }];
  writer.write(HEAD);
  writer.write({ type: 'records', n: 0, space: 't1', entries, last: true });
  writer.write({ ...END, n: 1 });
  writer.close();
  const whole = readFileSync(file);
  t.equal(codeOf(file), null, 'as it was written it is read');
  fc.assert(
    fc.property(fc.nat(whole.length - 1), fc.integer({ min: 1, max: 255 }), (at, change) => {
      const bytes = Buffer.from(whole);
      bytes[at]! ^= change;
      writeFileSync(file, bytes);
      const changed = codeOf(file);
      writeFileSync(file, whole.subarray(0, at));
      const cut = codeOf(file);
      writeFileSync(file, Buffer.concat([whole, Buffer.alloc(at + 1, change)]));
      return changed !== null && cut !== null && codeOf(file) === 'DISK_CORRUPT';
    }),
    BOX,
  );
});

t.test('a part that is no JSON is named by its offset', async (t) => {
  const file = join(t.testdir(), 'backup');
  const head = Buffer.from(JSON.stringify(HEAD));
  writeFileSync(file, framed([head, Buffer.from('{"type":')]));
  const offset = 8 + 36 + head.length;
  t.throws(() => [...readFrames(file)], { code: 'DISK_CORRUPT', message: new RegExp(`byte ${offset} `) });
});

t.test('a clock that nothing could follow is refused before anything is sent', async (t) => {
  const file = join(t.testdir(), 'backup');
  const offset = 8 + 36 + JSON.stringify(HEAD).length;
  const check = (atMs: number): void => {
    const writer = BackupWriter.create(file);
    const entries = [{ key: 'local\0team/app\0sha256:1', stored: { v: 1, atMs, value: {} } }];
    writer.write(HEAD);
    writer.write({ type: 'records', n: 0, space: 'l1', entries, last: true });
    writer.write({ ...END, n: 1 });
    writer.close();
    checkWhole(file);
  };
  for (const bad of [1e300, -1, Date.now() + 2 * 24 * 3_600_000])
    t.throws(() => check(bad), {
      code: 'REQUEST_INVALID',
      message: new RegExp(`byte ${offset}: l1: .*local team/app sha256:1`),
    });
  t.doesNotThrow(() => check(Date.now()));
});

t.test('a write that takes a part of the bytes is gone on with', (t) => {
  const file = join(t.testdir(), 'short');
  const { writeSync } = fs;
  t.teardown(() => {
    fs.writeSync = writeSync;
    syncBuiltinESMExports();
  });
  const writer = BackupWriter.create(file);
  const short = (fd: number, bytes: Uint8Array, offset: number, length: number, position: number): number =>
    writeSync(fd, bytes, offset, Math.min(length, 7), position);
  fs.writeSync = short as typeof fs.writeSync;
  syncBuiltinESMExports();
  for (const frame of [HEAD, END]) writer.write(frame);
  writer.close();
  t.same(
    [...readFrames(file)].map((one) => one.frame),
    [HEAD, END],
  );
  t.end();
});
