import t from 'tap';
import { startCluster, type TestCluster } from '../support/cluster.ts';
import { faultsOf, type Pushed, untilNothingOwed } from '../support/images.ts';
import { change, memberOf, pushSome, RING_CONFIG, untilEpoch } from '../support/ring.ts';

interface Standing {
  readonly generation: number;
  readonly settled: boolean;
}

/** What `o4` says of itself. */
async function standingOf(c: TestCluster): Promise<Standing> {
  return JSON.parse(
    (await c.call('o4', { method: 'GET', path: '/v1/standing' })).bytes.toString(),
  ) as Standing;
}

t.test(
  'who was taken out counts no more; added again it is handed over to, as a new generation',
  async (t) => {
    const c = await startCluster(t, { origins: 4, config: RING_CONFIG });
    const pushed = new Map<string, Map<string, Pushed>>();
    await pushSome(c, 'o1', pushed, 3, 'v1');
    await change(c, 'o1', 0, { action: 'drain', ids: ['o4'] });
    await untilEpoch(c, 2);
    const before = await standingOf(c);
    t.ok(before.settled);
    await change(c, 'o1', 2, { action: 'remove', ids: ['o4'] });
    await untilEpoch(c, 4);
    t.notOk((await standingOf(c)).settled);
    await t.rejects(change(c, 'o4', 4, { action: 'drain', ids: ['o1'] }), /not in the ring/);
    await pushSome(c, 'o2', pushed, 3, 'v1');
    await change(c, 'o2', 4, { action: 'add', members: [memberOf(c, 'o4')] });
    await untilEpoch(c, 6);
    const after = await standingOf(c);
    t.ok(after.settled);
    t.ok(after.generation > before.generation);
    await untilNothingOwed(c);
    for (const [repository, tags] of pushed) t.same(await faultsOf(c, repository, tags), [], repository);
  },
);

t.test('who was drained, and is added without being taken out, is handed over to as well', async (t) => {
  const c = await startCluster(t, { origins: 4, config: RING_CONFIG });
  const pushed = new Map<string, Map<string, Pushed>>();
  await pushSome(c, 'o1', pushed, 3, 'v1');
  await change(c, 'o1', 0, { action: 'drain', ids: ['o4'] });
  await untilEpoch(c, 2);
  const before = await standingOf(c);
  t.ok(before.settled);
  await pushSome(c, 'o2', pushed, 3, 'v1');
  await change(c, 'o2', 2, { action: 'add', members: [memberOf(c, 'o4')] });
  await untilEpoch(c, 4);
  const after = await standingOf(c);
  t.ok(after.settled);
  t.ok(after.generation > before.generation);
  await untilNothingOwed(c);
  for (const [repository, tags] of pushed) t.same(await faultsOf(c, repository, tags), [], repository);
});

t.test('a clean stop is not confirmed to who was taken out while it was off', async (t) => {
  const c = await startCluster(t, { origins: 4, config: RING_CONFIG });
  const pushed = new Map<string, Map<string, Pushed>>();
  await pushSome(c, 'o1', pushed, 3, 'v1');
  await untilNothingOwed(c);
  const before = await standingOf(c);
  await c.stop('o4');
  await change(c, 'o1', 0, { action: 'drain', ids: ['o4'] });
  await untilEpoch(c, 2);
  await change(c, 'o1', 2, { action: 'remove', ids: ['o4'] });
  await untilEpoch(c, 4);
  await c.start('o4');
  await untilEpoch(c, 4);
  await change(c, 'o2', 4, { action: 'add', members: [memberOf(c, 'o4')] });
  await untilEpoch(c, 6);
  const after = await standingOf(c);
  t.ok(after.settled);
  t.ok(after.generation > before.generation);
  for (const [repository, tags] of pushed) t.same(await faultsOf(c, repository, tags), [], repository);
});
