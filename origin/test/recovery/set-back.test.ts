import { cpSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { silentLogger } from '@sepia/base/log';
import { DataFolder } from '@sepia/store/data-folder';
import t from 'tap';
import { startCluster } from '../support/cluster.ts';
import { faultOf, faultsOf, type Pushed, pushTag, untilNothingOwed } from '../support/images.ts';

const CONFIG = 'compare-every: 1s';
const REPOSITORY = 'team/app';

t.test('a disk that was set back brings no old tag back, and no deleted one', async (t) => {
  const c = await startCluster(t, { origins: 3, config: CONFIG });
  await pushTag(c, 'o1', REPOSITORY, 'moved');
  await pushTag(c, 'o1', REPOSITORY, 'deleted');
  await untilNothingOwed(c);
  await c.stop('o1');
  const snapshot = `${c.dataOf('o1')}-snapshot`;
  cpSync(c.dataOf('o1'), snapshot, { recursive: true });
  await c.start('o1');
  await untilNothingOwed(c);
  // What follows only the first two know; then the first forgets it, and the third is back.
  await c.stop('o3');
  const moved = new Map<string, Pushed>([['moved', await pushTag(c, 'o2', REPOSITORY, 'moved')]]);
  const path = `/v1/manifests?upstream=local&repository=${REPOSITORY}&reference=deleted`;
  t.equal((await c.call('o2', { method: 'DELETE', path })).status, 204);
  await c.stop('o1');
  rmSync(c.dataOf('o1'), { recursive: true });
  cpSync(snapshot, c.dataOf('o1'), { recursive: true });
  await c.start('o1');
  await c.start('o3');
  await untilNothingOwed(c);
  t.same(await faultsOf(c, REPOSITORY, moved), []);
  for (const id of c.ids) {
    t.equal((await c.get(id, path)).status, 404, id);
  }
});

t.test('a folder of the version before is taken as it is', async (t) => {
  const c = await startCluster(t, { origins: 3, config: CONFIG });
  const pushed = new Map([['v1', await pushTag(c, 'o1', REPOSITORY, 'v1')]]);
  for (const id of c.ids) await c.stop(id);
  for (const id of c.ids) {
    rmSync(join(c.dataOf(id), 'v1', 'standing'));
    await using folder = await DataFolder.open({ log: silentLogger() }, { dir: c.dataOf(id), id });
    await folder.db.write([{ type: 'del', key: 'm1\0standing' }]);
  }
  for (const id of c.ids) await c.start(id);
  await Promise.all(c.ids.map(async (id) => await c.origins.get(id)!.whenSettled()));
  t.same(await faultsOf(c, REPOSITORY, pushed), []);
});

t.test('what nobody can hand over is lost by the word of the operator, and nothing else', async (t) => {
  const c = await startCluster(t, { origins: 3, config: CONFIG });
  const pushed = await pushTag(c, 'o2', REPOSITORY, 'v1');
  await untilNothingOwed(c);
  for (const id of ['o1', 'o2']) {
    await c.stop(id);
    rmSync(c.dataOf(id), { recursive: true, force: true });
  }
  await c.start('o1');
  const path = `/v1/manifests?upstream=local&repository=${REPOSITORY}&reference=v1`;
  t.equal((await c.get('o1', path)).status, 503);
  await c.stop('o1');
  await c.start('o2', { acceptLoss: true });
  await c.start('o1');
  await untilNothingOwed(c);
  t.equal(await faultOf(c, 'o1', REPOSITORY, 'v1', pushed), undefined, 'the third had it');
});
