import t from 'tap';
import { mountsOf } from '../../../src/snapshots/core/mounts.ts';
import type { Kind, Snapshot } from '../../../src/snapshots/core/table.ts';

const at = (id: number, kind: Kind): Snapshot => ({
  ...{ id, kind, name: String(id), parent: '', labels: {}, createdMs: 0, updatedMs: 0 },
});
const folder = (id: number, part: string): string => `/s/${id}/${part}`;

t.test('one folder is bound, more are an overlay', async (t) => {
  const below = [at(2, 'committed'), at(1, 'committed')];
  t.same(mountsOf(at(3, 'active'), [], folder, []), [
    { type: 'bind', source: '/s/3/fs', options: ['rw', 'rbind'] },
  ]);
  t.same(mountsOf(at(3, 'view'), [], folder, []), [
    { type: 'bind', source: '/s/3/fs', options: ['ro', 'rbind'] },
  ]);
  t.same(mountsOf(at(3, 'view'), below.slice(1), folder, []), [
    { type: 'bind', source: '/s/1/fs', options: ['ro', 'rbind'] },
  ]);
  t.same(mountsOf(at(3, 'view'), below, folder, []), [
    { type: 'overlay', source: 'overlay', options: ['lowerdir=/s/2/fs:/s/1/fs'] },
  ]);
  t.same(mountsOf(at(3, 'active'), below.slice(1), folder, []), [
    {
      type: 'overlay',
      source: 'overlay',
      options: ['workdir=/s/3/work', 'upperdir=/s/3/fs', 'lowerdir=/s/1/fs'],
    },
  ]);
});

t.test('what the kernel of the node needs is said of each overlay, and of nothing else', async (t) => {
  const below = [at(2, 'committed'), at(1, 'committed')];
  const optionsOf = (...of: Parameters<typeof mountsOf>): readonly string[] =>
    mountsOf(...of).flatMap(({ options }) => options);
  t.same(optionsOf(at(3, 'active'), below, folder, ['index=off']).slice(0, 2), [
    'index=off',
    'workdir=/s/3/work',
  ]);
  t.same(optionsOf(at(3, 'view'), below, folder, ['index=off']), ['index=off', 'lowerdir=/s/2/fs:/s/1/fs']);
  t.same(optionsOf(at(3, 'view'), below.slice(1), folder, ['index=off']), ['ro', 'rbind']);
});
