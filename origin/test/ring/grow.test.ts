import t from 'tap';
import { startCluster } from '../support/cluster.ts';
import { faultsOf, type Pushed } from '../support/images.ts';
import { change, memberOf, pushSome, RING_CONFIG, untilEpoch } from '../support/ring.ts';

t.test('3 → 6: all owners may be new, nothing is lost, nothing is stale', async (t) => {
  const c = await startCluster(t, { origins: 6, ring: 3, config: RING_CONFIG });
  const pushed = new Map<string, Map<string, Pushed>>();
  await pushSome(c, 'o1', pushed, 4, 'v1');
  await pushSome(c, 'o2', pushed, 2, 'v1');
  const added = ['o4', 'o5', 'o6'];
  for (const id of added) await c.start(id);
  await change(c, 'o2', 0, { action: 'add', members: added.map((id) => memberOf(c, id)) });
  await untilEpoch(c, 2);
  for (const [repository, tags] of pushed) t.same(await faultsOf(c, repository, tags), [], repository);
});
