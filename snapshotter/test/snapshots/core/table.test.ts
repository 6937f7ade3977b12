import { type Digest, digestOf } from '@sepia/base/digest';
import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { type Snapshot, SnapshotTable } from '../../../src/snapshots/core/table.ts';

const NO_USE = { sizeBytes: 0, inodes: 0 };
const layer: Digest = digestOf(Buffer.from('layer'));

function begin(
  table: SnapshotTable,
  name: string,
  parent = '',
  kind: 'view' | 'active' = 'active',
): Snapshot {
  const snapshot = table.begun(kind, { name, parent, labels: {} }, 1);
  table.put(snapshot);
  return snapshot;
}

function commit(table: SnapshotTable, key: string, name: string): void {
  table.put(table.committed(key, name, { a: '1' }, NO_USE, 2), key);
}

t.test('active, committed, removed: as containerd expects it', async (t) => {
  const table = new SnapshotTable([], 1);
  begin(table, 'a');
  t.throws(() => begin(table, 'a'), { code: 'SNAPSHOT_EXISTS' });
  t.throws(() => begin(table, 'b', 'nobody'), { code: 'SNAPSHOT_UNKNOWN' });
  t.throws(() => begin(table, 'b', 'a'), { code: 'REQUEST_INVALID' }, 'on an active one');
  t.throws(() => begin(table, ''), { code: 'REQUEST_INVALID' });
  commit(table, 'a', 'base');
  t.throws(() => table.get('a'), { code: 'SNAPSHOT_UNKNOWN' });
  t.equal(table.find('a'), undefined);
  t.equal(table.find('base'), table.get('base'));
  t.match(table.get('base'), { id: 1, kind: 'committed', labels: { a: '1' }, createdMs: 1, updatedMs: 2 });
  t.throws(() => table.committed('base', 'again', {}, NO_USE, 3), { code: 'SNAPSHOT_STATE' });
  begin(table, 'v', 'base', 'view');
  t.throws(() => table.committed('v', 'x', {}, NO_USE, 3), { code: 'SNAPSHOT_STATE' });
  begin(table, 'c', 'base');
  t.throws(() => table.committed('c', 'base', {}, NO_USE, 3), { code: 'SNAPSHOT_EXISTS' });
  t.throws(() => table.removable('base'), { code: 'SNAPSHOT_STATE' });
  table.drop(table.removable('v').name);
  table.drop(table.removable('c').name);
  t.equal(table.removable('base').id, 1);
});

t.test('labels change by their paths, nothing else does', async (t) => {
  const table = new SnapshotTable([], 1);
  table.put(table.mounted(layer, { name: 'l', parent: '', labels: { a: '1', b: '2' } }, 1));
  t.same(table.updated('l', { a: '3' }, ['labels.a'], 5).labels, { a: '3', b: '2' });
  t.same(table.updated('l', {}, ['labels.a'], 5).labels, { b: '2' });
  t.same(table.updated('l', { c: '1' }, ['labels'], 5).labels, { c: '1' });
  t.same(table.updated('l', { c: '1' }, [], 5).labels, { c: '1' });
  t.throws(() => table.updated('l', {}, ['parent'], 5), { code: 'REQUEST_INVALID' });
});

t.test('any history: a forest whose parents are committed, and no id twice', async () => {
  const names = fc.constantFrom('a', 'b', 'c', 'd', 'e');
  const step = fc.oneof(
    fc.record({ type: fc.constant('begin'), name: names, other: fc.option(names, { nil: '' }) }),
    fc.record({ type: fc.constant('commit'), name: names, other: names }),
    fc.record({ type: fc.constant('remove'), name: names, other: names }),
    fc.record({ type: fc.constant('mount'), name: names, other: fc.option(names, { nil: '' }) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      let table = new SnapshotTable([], 1);
      const ids = new Set<number>();
      for (const { type, name, other } of steps) {
        const before = new Set([...table.list()].map(({ id }) => id));
        try {
          if (type === 'begin') begin(table, name, other);
          else if (type === 'commit') commit(table, name, other);
          else if (type === 'remove') table.drop(table.removable(name).name);
          else table.put(table.mounted(layer, { name, parent: other, labels: {} }, 1));
        } catch (error) {
          if (!/^(SNAPSHOT_|REQUEST_)/.test(String((error as { code?: unknown }).code))) throw error;
        }
        for (const one of table.list()) {
          if (!before.has(one.id) && ids.has(one.id)) return false;
          ids.add(one.id);
          if (one.parent !== '' && table.get(one.parent).kind !== 'committed') return false;
          table.ancestors(one);
        }
        // What is on record makes the same table again.
        table = new SnapshotTable([...table.list()], Math.max(0, ...ids) + 1);
      }
      return true;
    }),
  );
});
