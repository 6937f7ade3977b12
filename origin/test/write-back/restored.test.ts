import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { Hub } from '../support/hub.ts';

interface Dumped {
  readonly entries: readonly { readonly key: string; readonly stored: unknown }[];
}

/** The tags of a cluster, as a backup has them. */
async function tagsOf(hub: Hub, space = 'r1'): Promise<Dumped['entries']> {
  const { bytes } = await hub.call('GET', `/v1/backup/${space}`);
  return (JSON.parse(bytes.toString()) as Dumped).entries;
}

async function restore(hub: Hub, entries: Dumped['entries'], space = 'r1'): Promise<void> {
  const body = Buffer.from(JSON.stringify({ space, entries }));
  const { status, bytes } = await hub.call('POST', '/v1/restore', body);
  if (status !== 200) throw new Error(`restore: ${status} ${bytes}`);
}

// Clusters of their own, which wait most of the time.
t.jobs = 2;

t.test('a backup says that tags wait: what never got there is brought, what is there stays', async (t) => {
  const before = await Hub.start(t);
  await before.target.down();
  const layers = { never: randomBytes(300), newer: randomBytes(300) };
  const never = await before.image('team/app', 'never', layers.never);
  const old = await before.image('team/app', 'newer', layers.newer);
  const backup = await tagsOf(before);
  for (const id of before.c.ids) await before.c.stop(id);
  const { target } = before;
  await target.up();
  const newer = before.direct('team/app', 'newer');

  const after = await Hub.start(t, {}, { target });
  await after.image('team/app', undefined, layers.never);
  await after.image('team/app', undefined, layers.newer);
  await restore(after, backup);
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
  const [tags, links] = [await tagsOf(before), await tagsOf(before, 'l1')];
  // Copies that were made are on record a little longer.
  const isAlone = async (): Promise<boolean> => (await tagsOf(before, 'j1')).length === 1;
  await until(isAlone, 'the job is what is left to do', 60_000);
  const jobs = await tagsOf(before, 'j1');
  for (const id of before.c.ids) await before.c.stop(id);
  const after = await Hub.start(t, {}, { target: before.target });
  await after.target.down();
  const atEach = async (entries: Dumped['entries'], space: string): Promise<void> => {
    for (const _ of after.c.ids) await restore(after, entries, space);
  };
  await atEach(tags, 'r1');
  // A large backup takes longer than noted tags wait.
  for (let page = 0; page < 12; page++) {
    await atEach(links, 'l1');
    await delay(500);
  }
  await atEach(jobs, 'j1');
  await delay(13_000);
  t.equal(new Set((await after.jobs()).map(({ id }) => id)).size, 1);
});
