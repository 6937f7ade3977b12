import t from 'tap';
import { startCluster } from '../support/cluster.ts';
import { faultsOf, type Pushed, untilNothingOwed } from '../support/images.ts';
import { change, memberOf, pushSome, RING_CONFIG, untilEpoch } from '../support/ring.ts';

t.test(
  'a member that stops and starts in mid-change goes on, and one that is away may be drained',
  async (t) => {
    const c = await startCluster(t, { origins: 4, ring: 3, config: RING_CONFIG });
    const pushed = new Map<string, Map<string, Pushed>>();
    await pushSome(c, 'o1', pushed, 3, 'v1');
    await c.start('o4');
    await change(c, 'o1', 0, { action: 'add', members: [memberOf(c, 'o4')] });
    for (const id of c.ids) {
      await c.stop(id);
      await c.start(id);
    }
    await untilEpoch(c, 2);
    await untilNothingOwed(c);
    for (const [repository, tags] of pushed) t.same(await faultsOf(c, repository, tags), [], repository);
    await c.stop('o1');
    await change(c, 'o2', 2, { action: 'drain', ids: ['o1'] });
    await untilEpoch(c, 4);
    const three = { ...c, ids: c.ids.slice(1) };
    for (const [repository, tags] of pushed) t.same(await faultsOf(three, repository, tags), [], repository);
  },
);
