import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { silentLogger } from '@sepia/base/log';
import t from 'tap';
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
