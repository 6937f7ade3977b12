import t, { type Test } from 'tap';
import { startCluster, type TestCluster } from '../support/cluster.ts';
import { faultsOf, type Pushed, untilNothingOwed } from '../support/images.ts';
import { change, memberOf, pushSome, RING_CONFIG, takeOut, untilEpoch } from '../support/ring.ts';

interface Standing {
  readonly generation: number;
  readonly settled: boolean;
}

/** What `o4` says of itself. */
async function standingOf(c: TestCluster): Promise<Standing> {
  return JSON.parse((await c.get('o4', '/v1/standing')).bytes.toString()) as Standing;
}

type PushedImages = Map<string, Map<string, Pushed>>;

/** Four origins that hold images of three repositories. */
async function filled(t: Test): Promise<{ c: TestCluster; pushed: PushedImages }> {
  const c = await startCluster(t, { origins: 4, config: RING_CONFIG });
  const pushed: PushedImages = new Map();
  await pushSome(c, 'o1', pushed, 3, 'v1');
  return { c, pushed };
}

/** Takes what `o4` owns from it. @returns its standing, which still counts */
async function drained(t: Test, c: TestCluster): Promise<Standing> {
  await change(c, 'o1', 0, { action: 'drain', ids: ['o4'] });
  await untilEpoch(c, 2);
  const standing = await standingOf(c);
  t.ok(standing.settled);
  return standing;
}

/** `o4` counts, as a later generation than `before`. */
async function countsAnew(t: Test, c: TestCluster, before: Standing): Promise<void> {
  const after = await standingOf(c);
  t.ok(after.settled);
  t.ok(after.generation > before.generation);
}

async function nothingIsAmiss(t: Test, c: TestCluster, pushed: PushedImages): Promise<void> {
  for (const [repository, tags] of pushed) t.same(await faultsOf(c, repository, tags), [], repository);
}

// Clusters of their own, which wait most of the time.
t.jobs = 2;

t.test(
  'who was taken out counts no more; added again it is handed over to, as a new generation',
  async (t) => {
    const { c, pushed } = await filled(t);
    const before = await drained(t, c);
    await takeOut(c, 'o1', 2, ['o4']);
    await untilEpoch(c, 4);
    t.notOk((await standingOf(c)).settled);
    await t.rejects(change(c, 'o4', 4, { action: 'drain', ids: ['o1'] }), /not in the ring/);
    await pushSome(c, 'o2', pushed, 3, 'v1');
    await change(c, 'o2', 4, { action: 'add', members: [memberOf(c, 'o4')] });
    await untilEpoch(c, 6);
    await countsAnew(t, c, before);
    await untilNothingOwed(c);
    await nothingIsAmiss(t, c, pushed);
  },
);

t.test('who was drained, and is added without being taken out, is handed over to as well', async (t) => {
  const { c, pushed } = await filled(t);
  const before = await drained(t, c);
  await pushSome(c, 'o2', pushed, 3, 'v1');
  await change(c, 'o2', 2, { action: 'add', members: [memberOf(c, 'o4')] });
  await untilEpoch(c, 4);
  await countsAnew(t, c, before);
  await untilNothingOwed(c);
  await nothingIsAmiss(t, c, pushed);
});

t.test('a clean stop is not confirmed to who was taken out while it was off', async (t) => {
  const { c, pushed } = await filled(t);
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
  await countsAnew(t, c, before);
  await nothingIsAmiss(t, c, pushed);
});
