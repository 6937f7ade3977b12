import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { status } from '@grpc/grpc-js';
import t from 'tap';
import { LABEL } from '../../src/snapshots/core/grants.ts';
import { SnapshotFolder } from '../../src/snapshots/snapshot-folder.ts';
import { APP, BASE, id, labelsOf, pull, shortDir, start, started, TOP } from '../support/snapshots-daemon.ts';

t.test('a pull whose layers are granted: each is there already, and found as containerd looks', async (t) => {
  const daemon = await started(t);
  const { caller, mounted, dir } = daemon;
  await pull(daemon, t);
  t.match(await caller.list(`labels."${LABEL.ref}"==${TOP},parent=="${BASE.diffId}"`), [
    { name: TOP, parent: BASE.diffId, kind: 'committed' },
  ]);
  t.same([...mounted.values()], ['/images/base', '/images/app']);
  const tree = (one: number): string => join(dir, 'snapshots/tree', String(one), 'fs');
  t.same(await caller.call('Prepare', { key: 'k8s.io/3/run', parent: TOP, labels: {} }), {
    mounts: [
      {
        type: 'overlay',
        source: 'overlay',
        options: [
          'index=off',
          `workdir=${join(dir, 'snapshots/tree/3/work')}`,
          `upperdir=${tree(3)}`,
          `lowerdir=${tree(2)}:${tree(1)}`,
        ],
      },
    ],
  });
  t.same(await caller.call('Usage', { key: TOP }), { size: 4096, inodes: 1 });
  t.match(await caller.call('Stat', { key: TOP }), {
    info: { created: { seconds: 1_700_000_000, nanos: 500_000_000 } },
  });
  await t.rejects(caller.call('Remove', { key: TOP }), { code: status.FAILED_PRECONDITION });
  for (const key of ['k8s.io/3/run', TOP, BASE.diffId]) await caller.call('Remove', { key });
  t.same(await caller.list(), []);
  t.equal(mounted.size, 0);
  await caller.call('Cleanup', {});
  t.same(readdirSync(join(dir, 'snapshots/tree')), []);
});

t.test('a tree that takes long to remove holds up nobody; the next daemon ends what one began', async (t) => {
  const dir = shortDir(t);
  const held = Promise.withResolvers<void>();
  class Slow extends SnapshotFolder {
    override async sweep(hidden: string): Promise<void> {
      await held.promise;
      await super.sweep(hidden);
    }
  }
  const { caller, ...first } = await start(dir, [], new Map(), Slow);
  for (const key of ['one', 'two']) await caller.call('Prepare', { key, parent: '', labels: {} });
  writeFileSync(join(dir, 'snapshots/tree/1/fs/file'), 'x');
  for (const key of ['one', 'two']) await caller.call('Remove', { key });
  t.same(readdirSync(join(dir, 'snapshots/tree')), ['1.gone', '2.gone']);
  t.match(await caller.call('Prepare', { key: 'three', parent: '', labels: {} }), { mounts: [{}] });
  const cleanup = caller.call('Cleanup', {});
  await caller.call('Remove', { key: 'three' });
  held.resolve();
  await cleanup;
  t.notOk(existsSync(join(dir, 'snapshots/tree/1.gone')));
  caller.close();
  await first.stop();
  mkdirSync(join(dir, 'snapshots/tree/9.gone/fs'), { recursive: true });
  const second = await start(dir);
  t.teardown(() => second.stop());
  await second.caller.call('Prepare', { key: 'four', parent: '', labels: {} });
  t.ok(existsSync(join(dir, 'snapshots/tree/10')), 'no number of one that is still being removed');
  await second.caller.call('Remove', { key: 'four' });
  await second.caller.call('Cleanup', {});
  t.same(readdirSync(join(dir, 'snapshots/tree')), []);
});

t.test('a key that was taken again while its tree was counted is not committed', async (t) => {
  const { snapshots, caller } = await started(t);
  const wanted = { name: 'one', parent: '', labels: {} };
  await snapshots.begin('active', wanted);
  const [commit, ...others] = await Promise.allSettled([
    snapshots.commit('one', 'layer', {}),
    snapshots.remove('one'),
    snapshots.begin('active', wanted),
  ]);
  t.match(commit, { status: 'rejected', reason: { code: 'SNAPSHOT_UNKNOWN' } });
  t.match(others, [{ status: 'fulfilled' }, { status: 'fulfilled' }]);
  t.match(await caller.list(), [{ name: 'one', kind: 'active' }]);
});

t.test('what is not granted, or cannot be mounted, is unpacked as ever', async (t) => {
  const { caller, mounted, dir } = await started(t, ['/images/base']);
  const ordinary = { key: 'k8s.io/1/extract', parent: '', labels: labelsOf(BASE.diffId, BASE.digest) };
  t.match(await caller.call('Prepare', ordinary), { mounts: [{ type: 'bind', options: ['rw', 'rbind'] }] });
  writeFileSync(join(dir, 'snapshots/tree/2/fs/file'), Buffer.alloc(10_000));
  const commit = { key: ordinary.key, name: `k8s.io/2/${BASE.diffId}`, labels: { a: 'b' }, parent: '' };
  await caller.call('Commit', commit);
  await t.rejects(caller.call('Mounts', { key: commit.name }), { code: status.FAILED_PRECONDITION });
  await t.rejects(caller.call('Mounts', { key: ordinary.key }), { code: status.NOT_FOUND });
  const { size, inodes } = await caller.call<{ size: number; inodes: number }>('Usage', { key: commit.name });
  t.ok(size >= 10_000 && inodes === 2, `${size} bytes, ${inodes} inodes`);
  t.equal(mounted.size, 0);
  // A layer that is shown may stand on one that was unpacked.
  const app = { key: 'x', parent: commit.name, labels: labelsOf(TOP, APP.digest) };
  await t.rejects(caller.call('Prepare', app), { code: status.ALREADY_EXISTS });
  t.match(await caller.list('kind==committed'), [{ name: commit.name }, { name: TOP, parent: commit.name }]);
  // Claimed for a layer of another image.
  const evil = {
    key: 'e',
    parent: '',
    labels: { ...labelsOf(APP.diffId, APP.digest), [LABEL.manifest]: id('evil') },
  };
  t.match(await caller.call('Prepare', evil), { mounts: [{ type: 'bind' }] });
  await t.rejects(caller.list('name='), { code: status.INVALID_ARGUMENT });
});

t.test(
  'the next daemon goes on: same snapshots, layers mounted, no rubbish; one broken record stops nothing',
  async (t) => {
    const dir = shortDir(t);
    const first = await start(dir);
    await pull(first, t);
    await first.caller.call('Prepare', { key: 'run', parent: TOP, labels: {} });
    await first.caller.call('Update', {
      info: { name: 'run', labels: { keep: 'me' } },
      mask: { paths: ['labels.keep'] },
    });
    const before = await first.caller.list();
    await first.stop();
    mkdirSync(join(dir, 'snapshots/tree/77/fs'), { recursive: true });
    writeFileSync(join(dir, 'snapshots/records/78.json'), '{"id":');
    writeFileSync(join(dir, 'snapshots/records/3.json.new'), 'half');
    const mounted = new Map<string, string>();
    // A layer that cannot be mounted any more stops no other.
    const second = await start(dir, ['/images/base'], mounted);
    t.teardown(() => second.stop());
    const byName = (list: { name: string }[]) => list.toSorted((a, b) => (a.name < b.name ? -1 : 1));
    t.same(byName(await second.caller.list()), byName(before));
    t.match(await second.caller.list('name==run'), [{ labels: { keep: 'me' } }]);
    t.same([...mounted.values()], ['/images/app']);
    t.notOk(existsSync(join(dir, 'snapshots/tree/77')));
    await second.caller.call('Prepare', { key: 'new', parent: '', labels: {} });
    t.ok(existsSync(join(dir, 'snapshots/tree/79/fs')), 'no id is used twice');
  },
);

t.test('a folder that is gone is made again, and its layer mounted', async (t) => {
  const dir = shortDir(t);
  const tree = (one: number): string => join(dir, 'snapshots/tree', String(one));
  const first = await start(dir);
  await pull(first, t);
  await first.caller.call('Prepare', { key: 'run', parent: TOP, labels: {} });
  await first.stop();
  rmSync(tree(1), { recursive: true });
  const second = await start(dir);
  t.teardown(() => second.stop());
  t.ok(existsSync(join(tree(1), 'fs')), 'at a start');
  const wanted: [key: string, call: () => Promise<object>][] = [
    ['Mounts', () => second.caller.call('Mounts', { key: 'run' })],
    ['Prepare', () => second.caller.call('Prepare', { key: 'next', parent: TOP, labels: {} })],
  ];
  for (const [name, call] of wanted) {
    rmSync(tree(2), { recursive: true });
    second.mounted.delete(join(tree(2), 'fs'));
    await call();
    t.ok(existsSync(join(tree(2), 'fs')), name);
    t.equal(second.mounted.get(join(tree(2), 'fs')), '/images/app', name);
  }
});

t.test(
  'a layer that cannot be mounted is no empty one: who stands on it is refused until it can',
  async (t) => {
    const dir = shortDir(t);
    const first = await start(dir);
    await pull(first, t);
    await first.caller.call('Prepare', { key: 'run', parent: TOP, labels: {} });
    await first.stop();
    const broken = ['/images/base'];
    const second = await start(dir, broken);
    t.teardown(() => second.stop());
    await t.rejects(second.caller.call('Mounts', { key: 'run' }), { code: status.INTERNAL });
    const next = { key: 'next', parent: TOP, labels: {} };
    await t.rejects(second.caller.call('Prepare', next), { message: /no loop device/ });
    broken.length = 0;
    t.match(await second.caller.call('Mounts', { key: 'run' }), { mounts: [{ type: 'overlay' }] });
    t.match(await second.caller.call('Prepare', next), { mounts: [{ type: 'overlay' }] });
  },
);

t.test('a record that cannot be read: its copy is taken; without one it goes', async (t) => {
  const dir = shortDir(t);
  const path = (one: number): string => join(dir, 'snapshots/records', `${one}.json`);
  const first = await start(dir);
  await pull(first, t);
  await first.caller.call('Prepare', { key: 'run', parent: TOP, labels: {} });
  const before = await first.caller.list();
  await first.stop();
  for (const one of [1, 3]) writeFileSync(path(one), '\0\0');
  writeFileSync(path(78), '{"id":');
  const second = await start(dir);
  t.same(await second.caller.list(), before, 'containerd finds what it has on record');
  t.match(await second.caller.call('Stat', { key: BASE.diffId }), { info: { kind: 'committed' } });
  await second.stop();
  t.same(readdirSync(join(dir, 'snapshots/records')).toSorted(), [
    ...['1.json', '2.json', '3.json'],
    '78.json.unreadable',
  ]);
  for (const one of [1, 3]) rmSync(join(dir, 'snapshots/tree', `${one}/record.json`));
  const third = await start(dir);
  t.teardown(() => third.stop());
  t.equal((await third.caller.list()).length, before.length, 'the record was written again');
  t.same(readdirSync(join(dir, 'snapshots/records')).toSorted(), ['1.json', '2.json', '3.json']);
});

t.test('a socket whose path is too long for the kernel is refused by name', async (t) => {
  const dir = join(shortDir(t), 'x'.repeat(120));
  await t.rejects(start(dir), { code: 'START_FAILED', message: /snapshots-socket/ });
});

t.test('what cannot be put on record again at a start is served all the same', async (t) => {
  const dir = shortDir(t);
  const copy = (one: number): string => join(dir, 'snapshots/tree', String(one), 'record.json');
  const first = await start(dir);
  await pull(first, t);
  const before = await first.caller.list();
  await first.stop();
  // As on a full disk nothing can be written there.
  for (const one of [1, 2]) mkdirSync(`${copy(one)}.new`);
  rmSync(copy(1));
  writeFileSync(join(dir, 'snapshots/records/2.json'), '{');
  const second = await start(dir);
  t.teardown(() => second.stop());
  t.same(await second.caller.list(), before);
});
