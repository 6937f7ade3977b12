import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { shardKey } from '@sepia/cluster/cluster';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { startCluster } from '../support/cluster.ts';
import { faultOf, faultsOf, loseDisk, type Pushed, pushTag, untilNothingOwed } from '../support/images.ts';

const CONFIG = 'compare-every: 1s';
const REPOSITORY = 'team/app';

t.test('a member that was away gets what it missed before another disk is lost', async (t) => {
  const c = await startCluster(t, { origins: 3, config: CONFIG });
  const pushed = new Map<string, Pushed>();
  for (let at = 0; at < 4; at++) pushed.set(`t${at}`, await pushTag(c, 'o1', REPOSITORY, `t${at}`));
  await c.stop('o3');
  for (let at = 2; at < 8; at++) pushed.set(`t${at}`, await pushTag(c, 'o1', REPOSITORY, `t${at}`));
  await c.start('o3');
  await untilNothingOwed(c);
  await loseDisk(c, 'o1');
  await untilNothingOwed(c);
  t.same(await faultsOf(c, REPOSITORY, pushed), []);
});

t.test('disks are replaced one after another', async (t) => {
  const c = await startCluster(t, { origins: 3, config: CONFIG });
  const pushed = new Map<string, Pushed>();
  for (let at = 0; at < 4; at++) pushed.set(`t${at}`, await pushTag(c, 'o2', REPOSITORY, `t${at}`));
  await untilNothingOwed(c);
  for (const id of c.ids) {
    await loseDisk(c, id);
    await untilNothingOwed(c);
  }
  t.same(await faultsOf(c, REPOSITORY, pushed), []);
});

t.test('the folder of blobs is emptied at one origin after another', async (t) => {
  const c = await startCluster(t, { origins: 3, config: CONFIG });
  const pushed = new Map<string, Pushed>();
  for (let at = 0; at < 4; at++) pushed.set(`t${at}`, await pushTag(c, 'o2', REPOSITORY, `t${at}`));
  await untilNothingOwed(c);
  for (const id of c.ids) {
    await c.stop(id);
    rmSync(join(c.dataOf(id), 'v1/blobs'), { recursive: true });
    await c.start(id);
    await untilNothingOwed(c);
  }
  t.same(await faultsOf(c, REPOSITORY, pushed), []);
});

t.test(
  'a file that is taken away from a running origin comes back once somebody reads it there',
  async (t) => {
    const c = await startCluster(t, { origins: 3, config: 'compare-every: 1h' });
    const pushed = await pushTag(c, 'o2', REPOSITORY, 'v1');
    await untilNothingOwed(c);
    const [digest] = pushed.blobs;
    const owner = c.cluster.origins(digest!).owners[0]!;
    const file = c.fileOf(owner, digest!);
    rmSync(file);
    const path = `/v1/blobs/${digest}?upstream=local&repository=${REPOSITORY}`;
    await c.get(owner, path);
    await until(() => existsSync(file), 'the copy is made again');
    await untilNothingOwed(c);
    t.equal(await faultOf(c, owner, REPOSITORY, 'v1', pushed), undefined);
  },
);

t.test('an empty disk says nothing before the others handed over', async (t) => {
  const c = await startCluster(t, { origins: 3, config: CONFIG });
  const pushed = await pushTag(c, 'o2', REPOSITORY, 'v1');
  await untilNothingOwed(c);
  await c.stop('o2');
  await c.stop('o1');
  rmSync(c.dataOf('o1'), { recursive: true, force: true });
  await c.start('o1');
  const path = `/v1/manifests?upstream=local&repository=${REPOSITORY}&reference=v1`;
  for (const id of ['o1', 'o3']) t.equal((await c.get(id, path)).status, 503, id);
  await until(
    async () => /waiting for .* from .*o2/.test(await c.admin('o1', '/readyz')),
    'says whom it waits for',
  );
  await c.start('o2');
  await untilNothingOwed(c);
  t.equal(await faultOf(c, 'o1', REPOSITORY, 'v1', pushed), undefined);
  t.equal(await c.admin('o1', '/readyz'), 'ok\n');
});

t.test(
  'of five origins one starts while another is away: it serves what it does not share with that one',
  async (t) => {
    const c = await startCluster(t, { origins: 5, config: CONFIG });
    const repositories = Array.from({ length: 12 }, (_, at) => `team/app${at}`);
    const pushed = new Map<string, Pushed>();
    for (const one of repositories) pushed.set(one, await pushTag(c, 'o1', one, 'v1'));
    await untilNothingOwed(c);
    await c.stop('o5');
    await c.stop('o4');
    rmSync(c.dataOf('o4'), { recursive: true, force: true });
    await c.start('o4');
    await until(
      async () => /^ok\nwarning: .*waiting for records from o5;/m.test(await c.admin('o4', '/readyz')),
      'it is ready',
    );
    for (const repository of repositories) {
      const { owners } = c.cluster.origins(shardKey('local', repository));
      const key = encodeURIComponent(JSON.stringify([pushed.get(repository)!.manifest]));
      const path = `/v1/records/links?upstream=local&repository=${repository}&key=${key}`;
      const own = await c.get('o4', path);
      const isShared = owners.includes('o4') && owners.includes('o5');
      if (owners.includes('o4')) t.equal(own.status, isShared ? 503 : 200, `${repository}: ${owners}`);
      const tag = `/v1/manifests?upstream=local&repository=${repository}&reference=v1`;
      t.equal((await c.get('o4', tag)).status, isShared ? 503 : 200, 'its tag');
    }
    await c.start('o5');
    await untilNothingOwed(c);
    t.equal(await c.admin('o4', '/readyz'), 'ok\n');
    for (const [repository, one] of pushed) t.equal(await faultOf(c, 'o4', repository, 'v1', one), undefined);
  },
);
