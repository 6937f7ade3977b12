import { until } from '@sepia/test-support/until';
import t from 'tap';
import { startCluster } from '../support/cluster.ts';
import { faultsOf, type Pushed, untilNothingOwed } from '../support/images.ts';
import { change, pushSome, RING_CONFIG, takeOut, untilEpoch } from '../support/ring.ts';

t.test('5 → 3: what was drained says so, and can go; nothing is lost, nothing is stale', async (t) => {
  const c = await startCluster(t, { origins: 5, config: RING_CONFIG });
  const pushed = new Map<string, Map<string, Pushed>>();
  await pushSome(c, 'o1', pushed, 3, 'v1');
  const drained = ['o4', 'o5'];
  await change(c, 'o5', 0, { action: 'drain', ids: drained });
  await pushSome(c, 'o4', pushed, 2, 'v1');
  await untilEpoch(c, 2);
  await until(
    async () =>
      /drained: .*; take it out of the ring with "sepia ring remove o4"/.test(await c.admin('o4', '/readyz')),
    'it says so once its blobs are confirmed elsewhere',
  );
  await takeOut(c, 'o1', 2, drained);
  await untilEpoch(c, 4);
  for (const id of drained) await c.stop(id);
  const three = { ...c, ids: c.ids.slice(0, 3) };
  await untilNothingOwed(three);
  for (const [repository, tags] of pushed) t.same(await faultsOf(three, repository, tags), [], repository);
});
