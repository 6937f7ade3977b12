import { readdirSync, readFileSync, rmSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { silentLogger } from '@sepia/base/log';
import { DataFolder } from '@sepia/store/data-folder';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { startCluster, type TestCluster } from '../support/cluster.ts';
import { faultOf, type Pushed, pushTag, untilNothingOwed } from '../support/images.ts';

const CONFIG = 'compare-every: 1s';
const REPOSITORY = 'team/app';

/** Everything that was acknowledged is at every origin. */
async function faults(c: TestCluster, pushed: ReadonlyMap<string, Pushed>): Promise<string[]> {
  const found: string[] = [];
  for (const [tag, one] of pushed)
    for (const id of c.ids) {
      const fault = await faultOf(c, id, REPOSITORY, tag, one);
      if (fault !== undefined) found.push(fault);
    }
  return found;
}

async function loseDisk(c: TestCluster, id: string): Promise<void> {
  await c.stop(id);
  rmSync(c.dataOf(id), { recursive: true, force: true });
  await c.start(id);
}

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
  t.same(await faults(c, pushed), []);
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
  t.same(await faults(c, pushed), []);
});

t.test('an empty disk says nothing before the others handed over', async (t) => {
  const c = await startCluster(t, { origins: 3, config: CONFIG });
  const pushed = await pushTag(c, 'o2', REPOSITORY, 'v1');
  await untilNothingOwed(c);
  await c.stop('o2');
  await c.stop('o1');
  rmSync(c.dataOf('o1'), { recursive: true, force: true });
  const origin = await c.start('o1');
  const path = `/v1/manifests?upstream=local&repository=${REPOSITORY}&reference=v1`;
  for (const id of ['o1', 'o3']) t.equal((await c.call(id, { method: 'GET', path })).status, 503, id);
  await until(
    async () => /waiting for .* from .*o2/.test(await (await fetch(`${origin.adminUrl}/readyz`)).text()),
    'says whom it waits for',
  );
  await c.start('o2');
  await untilNothingOwed(c);
  t.equal(await faultOf(c, 'o1', REPOSITORY, 'v1', pushed), undefined);
  t.equal(await (await fetch(`${origin.adminUrl}/readyz`)).text(), 'ok\n');
});

const DAMAGE: Readonly<Record<string, (db: string) => void>> = {
  'the manifest of the database is garbage': (db) => {
    for (const name of readdirSync(db)) if (/^MANIFEST/.test(name)) writeFileSync(join(db, name), 'garbage');
  },
  'the database lost its first file': (db) => unlinkSync(join(db, 'CURRENT')),
  'the database is gone': (db) => rmSync(db, { recursive: true }),
  'the log of the database is garbage': (db) => {
    for (const name of readdirSync(db))
      if (/\.log$/.test(name))
        writeFileSync(join(db, name), Buffer.alloc(readFileSync(join(db, name)).length, 7));
  },
};
for (const [name, damage] of Object.entries(DAMAGE))
  t.test(`${name}: it is filled again from the others`, async (t) => {
    const c = await startCluster(t, { origins: 3, config: CONFIG });
    const pushed = new Map([['v1', await pushTag(c, 'o1', REPOSITORY, 'v1')]]);
    await untilNothingOwed(c);
    await c.stop('o1');
    damage(join(c.dataOf('o1'), 'v1', 'db'));
    await c.start('o1');
    await untilNothingOwed(c);
    t.same(await faults(c, pushed), []);
    await loseDisk(c, 'o3');
    await untilNothingOwed(c);
    t.same(await faults(c, pushed), [], 'and it can hand over itself');
  });

t.test('a folder of the version before is taken as it is', async (t) => {
  const c = await startCluster(t, { origins: 3, config: CONFIG });
  const pushed = new Map([['v1', await pushTag(c, 'o1', REPOSITORY, 'v1')]]);
  for (const id of c.ids) await c.stop(id);
  for (const id of c.ids) {
    rmSync(join(c.dataOf(id), 'v1', 'standing'));
    await using folder = await DataFolder.open({ log: silentLogger() }, { dir: c.dataOf(id), id });
    await folder.db.del('m1\0standing', { sync: true });
  }
  for (const id of c.ids) await c.start(id);
  await Promise.all(c.ids.map(async (id) => await c.origins.get(id)!.whenSettled()));
  t.same(await faults(c, pushed), []);
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
  t.equal((await c.call('o1', { method: 'GET', path })).status, 503);
  await c.stop('o1');
  await c.start('o2', { acceptLoss: true });
  await c.start('o1');
  await untilNothingOwed(c);
  t.equal(await faultOf(c, 'o1', REPOSITORY, 'v1', pushed), undefined, 'the third had it');
});
