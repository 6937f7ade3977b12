import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { RecordSpace } from '@sepia/records/core/record-space';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { TAG_CHECK_MS } from '../../src/deadlines/members.ts';
import { backupOf, restoreAt } from '../support/backup.ts';
import { Hub } from '../support/hub.ts';

// Clusters of their own, which wait most of the time.
t.jobs = 2;

t.test('a backup says that tags wait: what never got there is brought, what is there stays', async (t) => {
  const before = await Hub.start(t);
  await before.target.down();
  const layers = { never: randomBytes(300), newer: randomBytes(300) };
  const never = await before.image('team/app', 'never', layers.never);
  const old = await before.image('team/app', 'newer', layers.newer);
  const backup = await backupOf(before.c, 'r1');
  t.equal(backup.length, 2);
  for (const id of before.c.ids) await before.c.stop(id);
  const { target } = before;
  await target.up();
  const newer = before.direct('team/app', 'newer');

  const after = await Hub.start(t, {}, { target });
  await after.image('team/app', undefined, layers.never);
  await after.image('team/app', undefined, layers.newer);
  await restoreAt(after.c, after.c.ids[0]!, 'r1', backup);
  for (const tag of ['never', 'newer']) t.match(await after.tag('team/app', tag), { status: 200 });
  const dead = await after.dead();
  t.match(dead, { reference: 'newer', error: /^WRITE_BACK_CONFLICT/, advice: /--take/ });
  t.equal(target.manifests.get('team/app:newer'), newer, 'what is newer there stays');
  t.match(
    await after.tag('team/app', 'newer'),
    { status: 200, digest: old },
    'and what was pushed counts here',
  );
  await after.retry({ job: dead.id, take: 'theirs' });
  await after.drained();
  t.equal(target.manifests.get('team/app:never'), never);
  t.match(await after.tag('team/app', 'newer'), { status: 200, digest: newer });
});

t.test('a tag whose job comes later from the same backup gets no second one', async (t) => {
  const before = await Hub.start(t);
  await before.target.down();
  await before.image('team/app', 'v1', randomBytes(300));
  const [tags, links] = [await backupOf(before.c, 'r1'), await backupOf(before.c, 'l1')];
  t.equal(tags.length, 1);
  // Copies that were made are on record a little longer.
  const isAlone = async (): Promise<boolean> => (await backupOf(before.c, 'j1')).length === 1;
  await until(isAlone, 'the job is what is left to do', 60_000);
  const jobs = await backupOf(before.c, 'j1');
  for (const id of before.c.ids) await before.c.stop(id);
  const after = await Hub.start(t, {}, { target: before.target });
  await after.target.down();
  const atEach = async (entries: typeof tags, space: RecordSpace): Promise<void> => {
    for (const id of after.c.ids) await restoreAt(after.c, id, space, entries);
  };
  await atEach(tags, 'r1');
  // A large backup takes longer than noted tags wait.
  for (let page = 0; page < 12; page++) {
    await atEach(links, 'l1');
    await delay(500);
  }
  await atEach(jobs, 'j1');
  await delay(TAG_CHECK_MS + 3_000);
  t.equal(new Set((await after.jobs()).map(({ id }) => id)).size, 1);
});
