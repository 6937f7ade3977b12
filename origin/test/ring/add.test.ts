import { until } from '@sepia/test-support/until';
import t from 'tap';
import { startCluster } from '../support/cluster.ts';
import { faultsOf, type Pushed, untilNothingOwed } from '../support/images.ts';
import { change, memberOf, membershipOf, pushSome, RING_CONFIG, untilEpoch } from '../support/ring.ts';

t.test('a fourth origin is added: everything is readable meanwhile and after it', async (t) => {
  const c = await startCluster(t, { origins: 4, ring: 3, config: RING_CONFIG });
  const pushed = new Map<string, Map<string, Pushed>>();
  await pushSome(c, 'o1', pushed, 4, 'v1');
  await c.start('o4');
  await until(async () => (await membershipOf(c, 'o4')).epoch === 0, 'the new one knows the ring');
  t.equal((await change(c, 'o1', 0, { action: 'add', members: [memberOf(c, 'o4')] })).epoch, 1);
  await pushSome(c, 'o2', pushed, 4, 'v2');
  await untilEpoch(c, 2);
  await pushSome(c, 'o4', pushed, 2, 'v3');
  await untilNothingOwed(c);
  for (const [repository, tags] of pushed) t.same(await faultsOf(c, repository, tags), [], repository);
});

t.test('one origin becomes two: the new one knows that it is not in the ring yet', async (t) => {
  const c = await startCluster(t, { origins: 2, ring: 1, config: RING_CONFIG });
  const pushed = new Map<string, Map<string, Pushed>>();
  await pushSome(c, 'o1', pushed, 2, 'v1');
  await c.start('o2');
  await until(async () => /not in the ring/.test(await c.admin('o2', '/readyz')), 'it says so');
  await change(c, 'o1', 0, { action: 'add', members: [memberOf(c, 'o2')] });
  await untilEpoch(c, 2);
  await untilNothingOwed(c);
  for (const [repository, tags] of pushed) t.same(await faultsOf(c, repository, tags), [], repository);
});

t.test('an origin in no ring says so; a document changed by hand is refused', async (t) => {
  const c = await startCluster(t, { origins: 3, ring: 2, config: RING_CONFIG });
  await c.start('o3');
  await until(
    async () => /not in the ring; add it with "sepia ring add"/.test(await c.admin('o3', '/readyz')),
    'it says so',
  );
  await t.rejects(change(c, 'o1', 4, { action: 'drain', ids: ['o1'] }), /the ring is at epoch 0/);
  await t.rejects(change(c, 'o1', 0, { action: 'drain', ids: ['o9'] }), /o9 is not in the ring/);
  await c.stop('o2');
  c.document('first', (members) => members.slice(1));
  await t.rejects(c.start('o2'), {
    code: 'CONFIG_INVALID',
    message: /o1 is not in it any more.*start once with the former document/,
  });
});
