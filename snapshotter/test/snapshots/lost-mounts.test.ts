import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { status } from '@grpc/grpc-js';
import { CodedError } from '@sepia/base/errors';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import type { Snapshot } from '../../src/snapshots/core/table.ts';
import { SnapshotFolder } from '../../src/snapshots/snapshot-folder.ts';
import { BASE, labelsOf, pull, shortDir, start, TOP } from '../support/snapshots-daemon.ts';

t.test('a layer that somebody unmounted is no empty one: it is mounted again', async (t) => {
  const daemon = await start(shortDir(t));
  t.teardown(() => daemon.stop());
  await pull(daemon, t);
  await daemon.caller.call('Prepare', { key: 'run', parent: TOP, labels: {} });
  const before = new Map(daemon.mounted);
  const wanted = [
    async () => await daemon.caller.call('Mounts', { key: 'run' }),
    async () => await daemon.caller.call('Prepare', { key: 'next', parent: TOP, labels: {} }),
    async () => await daemon.caller.call('View', { key: 'look', parent: TOP, labels: {} }),
  ];
  for (const call of wanted) {
    daemon.mounted.clear();
    await call();
    t.same(daemon.mounted, before);
  }
});

t.test('what does not come on record leaves nothing on the disk, and nothing mounted', async (t) => {
  let isFull = false;
  class FullFolder extends SnapshotFolder {
    override async save(snapshot: Snapshot): Promise<void> {
      await super.save(snapshot);
      if (isFull) throw new CodedError('DISK_FULL');
    }
  }
  const dir = shortDir(t);
  const daemon = await start(dir, [], new Map(), FullFolder);
  t.teardown(() => daemon.stop());
  const tree = (): string[] => readdirSync(join(dir, 'snapshots/tree'));
  isFull = true;
  for (const key of ['one', 'two'])
    await t.rejects(daemon.caller.call('Prepare', { key, parent: '', labels: {} }), {
      code: status.INTERNAL,
    });
  const labels = labelsOf(BASE.diffId, BASE.digest);
  await t.rejects(daemon.caller.call('Prepare', { key: 'lazy', parent: '', labels }), {
    code: status.INTERNAL,
  });
  await until(() => tree().length === 0, 'an empty folder');
  t.equal(daemon.mounted.size, 0);
  t.same(readdirSync(join(dir, 'snapshots/records')), []);
  isFull = false;
  await daemon.caller.call('Prepare', { key: 'one', parent: '', labels: {} });
  t.equal(tree().length, 1);
});

t.test('at the start one layer that cannot be mounted for a while does not keep the others', async (t) => {
  const dir = shortDir(t);
  const before = await start(dir);
  await pull(before, t);
  await before.stop();
  let begun = 0;
  class Slow extends SnapshotFolder {
    override async make(snapshot: Snapshot, below: Snapshot | undefined): Promise<void> {
      begun += 1;
      await until(() => begun === 2, 'both layers are being mounted');
      await super.make(snapshot, below);
    }
  }
  const after = await start(dir, [], new Map(), Slow);
  t.teardown(() => after.stop());
  t.equal(after.mounted.size, 2);
});
