import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { silentLogger } from '@sepia/base/log';
import t from 'tap';
import { diskUsage } from '../../src/snapshots/disk-usage.ts';
import { SnapshotFolder } from '../../src/snapshots/snapshot-folder.ts';

const ONE = {
  id: 1,
  name: 'one',
  kind: 'committed',
  parent: '',
  labels: {},
  createdMs: 1,
  updatedMs: 1,
} as const;

t.test('a record of a later version counts, and keeps what is not known of it here', async (t) => {
  const dir = t.testdir();
  const folder = new SnapshotFolder({ log: silentLogger() }, dir);
  await folder.open();
  await folder.make(ONE, undefined);
  const later = { ...ONE, usage: { sizeBytes: 9, inodes: 1, blocks: 2 }, driver: 'next' };
  await folder.save(later);
  const { snapshots } = await new SnapshotFolder({ log: silentLogger() }, dir).open();
  t.same(snapshots, [later]);
  await folder.save({ ...snapshots[0]!, updatedMs: 2 });
  const record = JSON.parse(readFileSync(join(dir, 'records/1.json'), 'utf8')) as unknown;
  t.same(record, { ...later, updatedMs: 2 });
});

t.test('what is forgotten is gone, and is no failure where it was not on record', async (t) => {
  const dir = t.testdir();
  const folder = new SnapshotFolder({ log: silentLogger() }, dir);
  await folder.open();
  await folder.save(ONE);
  await folder.forget(1);
  await folder.forget(1);
  t.same((await new SnapshotFolder({ log: silentLogger() }, dir).open()).snapshots, []);
});

t.test('a record that is none is left out, and what stands on it', async (t) => {
  const dir = t.testdir();
  const folder = new SnapshotFolder({ log: silentLogger() }, dir);
  await folder.open();
  await folder.save(ONE);
  await folder.save({ ...ONE, id: 2, name: 'two', parent: 'one' });
  for (const path of ['records/1.json', 'tree/1/record.json']) writeFileSync(join(dir, path), '{"id":1}');
  const { snapshots, nextId } = await new SnapshotFolder({ log: silentLogger() }, dir).open();
  t.same([snapshots, nextId], [[], 3]);
});

t.test(
  'a record counts before its copy; one that can be read is enough, and makes the other anew',
  async (t) => {
    const dir = t.testdir();
    const open = async () => (await new SnapshotFolder({ log: silentLogger() }, dir).open()).snapshots;
    const folder = new SnapshotFolder({ log: silentLogger() }, dir);
    await folder.open();
    await folder.save(ONE);
    const [record, copy] = [join(dir, 'records/1.json'), join(dir, 'tree/1/record.json')];
    rmSync(copy);
    t.same(await open(), [ONE]);
    t.same(JSON.parse(readFileSync(copy, 'utf8')), ONE);
    writeFileSync(record, '{');
    t.same(await open(), [ONE]);
    t.same(JSON.parse(readFileSync(record, 'utf8')), ONE);
    writeFileSync(copy, JSON.stringify({ ...ONE, updatedMs: 9 }));
    t.same(await open(), [ONE]);
  },
);

t.test('a tree deeper than any path can name goes off the disk', async (t) => {
  const dir = t.testdir();
  const folder = new SnapshotFolder({ log: silentLogger() }, dir);
  await folder.open();
  await folder.make(ONE, undefined);
  const fs = folder.pathOf(1, 'fs');
  // As a program makes it that goes down step by step: each part is put into the one before.
  const names = Array.from({ length: 10 }, () => 'n'.repeat(200));
  for (let part = 0; part < 4; part++) {
    const inner = join(dir, 'inner');
    mkdirSync(join(inner, ...names), { recursive: true });
    writeFileSync(join(inner, ...names, 'file'), 'x'.repeat(5_000));
    if (existsSync(join(fs, 'd'))) renameSync(join(fs, 'd'), join(inner, ...names, 'd'));
    renameSync(inner, join(fs, 'd'));
  }
  const usage = await diskUsage(fs);
  t.ok(usage.inodes > 10, 'what a path can name of it is counted');
  const hidden = await folder.hide(folder.treeOf(1));
  await folder.sweep(hidden);
  t.notOk(existsSync(hidden));
});

t.test('what files take is counted, whatever bytes their names have', async (t) => {
  const dir = t.testdir();
  const odd = Buffer.concat([Buffer.from(`${dir}/`), Buffer.from('ff', 'hex')]);
  mkdirSync(odd);
  writeFileSync(Buffer.concat([odd, Buffer.from('/file')]), 'x'.repeat(100_000));
  const { sizeBytes, inodes } = await diskUsage(dir);
  t.equal(inodes, 3);
  t.ok(sizeBytes >= 100_000, `${sizeBytes} bytes`);
});
