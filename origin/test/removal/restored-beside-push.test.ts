import { join } from 'node:path';
import type { Digest } from '@sepia/base/digest';
import { silentLogger } from '@sepia/base/log';
import { RecordStore } from '@sepia/records/store/record-store';
import { LevelTable } from '@sepia/records/table/level-table';
import { DataFolder } from '@sepia/store/data-folder';
import t, { type Test } from 'tap';
import { restoreTag } from '../../src/http/backup-routes.ts';
import { type TagName, Tags } from '../../src/records/tags.ts';

const NAME = { upstream: 'local', repository: 'team/app', tag: 'v1' } as TagName;
const IMAGE = `sha256:${'a'.repeat(64)}` as Digest;
const RULES = { mode: 'none', policy: 'mutable', ttlMs: 1, staleLimitMs: 1 } as const;
const owedTags = { restored: () => undefined };

/** Tags on one origin's disk, and its date. */
async function tagsOn(t: Test, name: string) {
  const folder = await DataFolder.open({ log: silentLogger() }, { dir: join(t.testdirName, name), id: 'a' });
  const records = new RecordStore({ table: new LevelTable({ db: folder.db }) });
  t.teardown(async () => {
    await records.close();
    await folder.close();
  });
  const clock = { nowMs: 10 };
  const tags = new Tags({
    records,
    members: {
      selfId: 'a',
      isSuspect: () => false,
      isGone: () => false,
      shard: () => ({ epoch: 0, sets: [['a']] }),
    },
    standing: {
      require: () => undefined,
      sender: { id: 'a', generation: 1, known: {} },
      standing: { epoch: 0 },
    },
    ...{ nowMs: () => clock.nowMs, dateMs: () => clock.nowMs },
  } as never);
  return { tags, records, clock };
}

t.test('a tag of a backup whose manifest was deleted, and is pushed again meanwhile, stays', async (t) => {
  t.testdir();
  const before = await tagsOn(t, 'before');
  await before.tags.move(NAME, IMAGE, RULES, 'push');
  const [entry] = (await before.records.dump.page('r1', undefined, 10)).entries;
  const { tags, clock } = await tagsOn(t, 'after');
  clock.nowMs = 30;
  await restoreTag({ tags, owedTags, links: { isGone: async () => true } }, entry!);
  t.equal(await tags.read(NAME), undefined, 'without a push it goes with its manifest');

  const again = await tagsOn(t, 'again');
  again.clock.nowMs = 30;
  const isGone = async (): Promise<boolean> => {
    // The look came before the push linked the manifest; its answer comes after the push is acknowledged.
    await again.tags.move(NAME, IMAGE, RULES, 'push');
    return true;
  };
  await restoreTag({ tags: again.tags, owedTags, links: { isGone } }, entry!);
  t.match(await again.tags.read(NAME), { digest: IMAGE, checkedAtMs: 30 });
});
