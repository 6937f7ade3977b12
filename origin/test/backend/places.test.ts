import { existsSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { startCluster } from '../support/cluster.ts';
import { backlogs, bytesOf, collect, copies, fileIn, MIB, pull, push, setUp, until, written } from './bed.ts';

t.test('two clusters on one folder: the second writes nothing, and keeps what is pushed', async (t) => {
  const { c, place } = await setUp(t, { origins: 1 });
  const digest = await push(c, bytesOf(MIB, 1));
  const alone = await push(c, bytesOf(MIB, 5));
  await until(written(c), 'the first one writes');
  const [mark] = readdirSync(join(place, 'clusters'));
  await t.test('the second', async (t) => {
    const upstreams = [{ name: 'local', mode: 'none', backend: { fs: { path: place } } }];
    const config = 'cache:\n  budget: 100KiB\n  high: 0.5\n  low: 0.2';
    const other = await startCluster(t, { origins: 1, config, document: { upstreams } });
    const theirs = await push(other, bytesOf(MIB, 2));
    // It has the same blob: what lies in another's folder makes no room.
    await push(other, bytesOf(MIB, 1));
    const problem = async (): Promise<string> => (await backlogs(other))[0]?.problem ?? '';
    await until(async () => /another cluster/.test(await problem()), 'it says why');
    t.match(await problem(), new RegExp(`${place} belongs to another cluster \\(clusters/${mark}\\)`));
    for (const one of [theirs, digest]) t.same(copies(other, one), ['o1'], 'it stays here');
    const { backends } = await collect(other);
    t.match(backends, [{ blobs: 0, left: /belongs to another cluster/ }]);
    for (const one of [digest, alone])
      t.ok(existsSync(fileIn(place, one)), 'what the second does not know stays');
    const later = await push(other, bytesOf(MIB, 6));
    rmSync(join(place, 'clusters', mark!));
    await until(written(other), 'the operator removed the mark: it is the place of the second');
    t.ok(existsSync(fileIn(place, later)));
  });
});

t.test('another place is refused by name until its content was moved', async (t) => {
  const { c, place } = await setUp(t, { origins: 1, budget: '100KiB' });
  const bytes = bytesOf(MIB, 3);
  const digest = await push(c, bytes);
  await until(() => copies(c, digest).length === 0, 'it is in the folder alone');
  await c.stop('o1');
  const moved = `${place}.new`;
  renameSync(place, moved);
  const backend = { fs: { path: moved } };
  const upstream = { name: 'local', mode: 'none' };
  c.upstreams([], { ...upstream, backend });
  await t.rejects(c.start('o1'), {
    code: 'CONFIG_INVALID',
    message: `upstreams: local: backend is ${moved}, but its blobs rest in ${place}: set that again, or copy all of it, its mark below clusters/ too, and say so by backend.moved-from: ${place}`,
  });
  c.upstreams([], { ...upstream, backend: { ...backend, 'moved-from': place } });
  await (await c.start('o1')).whenSettled();
  t.ok((await pull(c, 'o1', digest)).bytes.equals(bytes));
  const next = await push(c, bytesOf(MIB, 4));
  await until(() => copies(c, next).length === 0, 'it is written there');
  await c.stop('o1');
  c.upstreams([], { ...upstream, backend });
  await c.start('o1');
  t.pass('it rests there now');
});
