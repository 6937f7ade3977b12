import { readdirSync, readFileSync, rmSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { openLevel } from '@sepia/store/level-database';
import t from 'tap';
import { startCluster } from '../support/cluster.ts';
import { faultsOf, loseDisk, pushTag, untilNothingOwed } from '../support/images.ts';

const CONFIG = 'compare-every: 1s';
const REPOSITORY = 'team/app';

const DAMAGE: Readonly<Record<string, (db: string) => void>> = {
  'the manifest of the database is garbage': (db) => {
    for (const name of readdirSync(db)) if (/^MANIFEST/.test(name)) writeFileSync(join(db, name), 'garbage');
  },
  'the manifest of the database is gone': (db) => {
    for (const name of readdirSync(db)) if (/^MANIFEST/.test(name)) unlinkSync(join(db, name));
  },
  'the database lost its first file': (db) => unlinkSync(join(db, 'CURRENT')),
  'the database is gone': (db) => rmSync(db, { recursive: true }),
  'the log of the database is garbage': (db) => {
    for (const name of readdirSync(db))
      if (/\.log$/.test(name))
        writeFileSync(join(db, name), Buffer.alloc(readFileSync(join(db, name)).length, 7));
  },
};
// Clusters of their own, which wait most of the time.
t.jobs = 2;

for (const [name, damage] of Object.entries(DAMAGE))
  t.test(`${name}: it is filled again from the others`, async (t) => {
    const c = await startCluster(t, { origins: 3, config: CONFIG });
    const pushed = new Map([['v1', await pushTag(c, 'o1', REPOSITORY, 'v1')]]);
    await untilNothingOwed(c);
    await c.stop('o1');
    damage(join(c.dataOf('o1'), 'v1', 'db'));
    await c.start('o1');
    await untilNothingOwed(c);
    t.same(await faultsOf(c, REPOSITORY, pushed), []);
    await loseDisk(c, 'o3');
    await untilNothingOwed(c);
    t.same(await faultsOf(c, REPOSITORY, pushed), [], 'and it can hand over itself');
  });

t.test(
  'one digit of a tag changed on disk: it is never served, and comes back from the others',
  async (t) => {
    const c = await startCluster(t, { origins: 3, config: CONFIG });
    const pushed = await pushTag(c, 'o1', REPOSITORY, 'v1');
    const { manifest } = pushed;
    const wrong = manifest.replace(/.$/, (last) => (last === '0' ? '1' : '0'));
    await untilNothingOwed(c);
    await c.stop('o1');
    const level = await openLevel(join(c.dataOf('o1'), 'v1', 'db'));
    let changed = 0;
    for await (const [key, value] of level.iterator()) {
      if (!value.includes(manifest)) continue;
      await level.put(key, value.replaceAll(manifest, wrong));
      changed += 1;
    }
    await level.close();
    t.ok(changed > 0, 'records name its manifest');
    await c.start('o1');
    await untilNothingOwed(c);
    t.same(await faultsOf(c, REPOSITORY, new Map([['v1', pushed]])), []);
    await loseDisk(c, 'o3');
    await untilNothingOwed(c);
    t.same(await faultsOf(c, REPOSITORY, new Map([['v1', pushed]])), [], 'and it can hand over itself');
  },
);
