import type { RingStatus } from '@sepia/cluster/api/ring';
import { foundingMembership, type Membership } from '@sepia/cluster/membership';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { startCluster, type TestCluster } from '../support/cluster.ts';
import { faultsOf, type Pushed, pushTag, untilNothingOwed } from '../support/images.ts';

const CONFIG = 'compare-every: 1s';
/** A change of some small images, on a busy machine. */
const CHANGE_MS = 60_000;

t.test('a fourth origin is added: everything is readable meanwhile and after it', async (t) => {
  const c = await startCluster(t, { origins: 4, ring: 3, config: CONFIG });
  const pushed = new Map<string, Map<string, Pushed>>();
  await pushSome(c, 'o1', pushed, 12, 'v1');
  await c.start('o4');
  await until(async () => (await membershipOf(c, 'o4')).epoch === 0, 'the new one knows the ring');
  t.equal((await change(c, 'o1', 0, { action: 'add', members: [memberOf(c, 'o4')] })).epoch, 1);
  await pushSome(c, 'o2', pushed, 12, 'v2');
  await untilEpoch(c, 2);
  await pushSome(c, 'o4', pushed, 3, 'v3');
  await untilNothingOwed(c);
  for (const [repository, tags] of pushed) t.same(await faultsOf(c, repository, tags), [], repository);
});

t.test('3 → 6 → 3: nothing is lost, nothing is stale, what was drained can go', async (t) => {
  const c = await startCluster(t, { origins: 6, ring: 3, config: CONFIG });
  const pushed = new Map<string, Map<string, Pushed>>();
  await pushSome(c, 'o1', pushed, 8, 'v1');
  await pushSome(c, 'o1', pushed, 8, 'v2');
  const added = ['o4', 'o5', 'o6'];
  for (const id of added) await c.start(id);
  await change(c, 'o2', 0, { action: 'add', members: added.map((id) => memberOf(c, id)) });
  await untilEpoch(c, 2);
  for (const [repository, tags] of pushed) t.same(await faultsOf(c, repository, tags), [], repository);
  await pushSome(c, 'o5', pushed, 8, 'v1');
  await change(c, 'o6', 2, { action: 'drain', ids: added });
  await pushSome(c, 'o4', pushed, 8, 'v2');
  await untilEpoch(c, 4);
  await change(c, 'o1', 4, { action: 'remove', ids: added });
  await untilEpoch(c, 6);
  for (const id of added) await c.stop(id);
  const three = { ...c, ids: c.ids.slice(0, 3) };
  await untilNothingOwed(three);
  for (const [repository, tags] of pushed) t.same(await faultsOf(three, repository, tags), [], repository);
});

t.test('a member that is killed in mid-change goes on, and a drained one may be dead', async (t) => {
  const c = await startCluster(t, { origins: 4, ring: 3, config: CONFIG });
  const pushed = new Map<string, Map<string, Pushed>>();
  await pushSome(c, 'o1', pushed, 6, 'v1');
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
});

t.test('an origin in no ring says so; a document changed by hand is refused', async (t) => {
  const c = await startCluster(t, { origins: 3, ring: 2, config: CONFIG });
  const { adminUrl } = await c.start('o3');
  const readyz = async (): Promise<string> => await (await fetch(`${adminUrl}/readyz`)).text();
  await until(async () => /not in the ring; add it with "sepia ring add"/.test(await readyz()), 'it says so');
  await t.rejects(change(c, 'o1', 4, { action: 'drain', ids: ['o1'] }), /the ring is at epoch 0/);
  await t.rejects(change(c, 'o1', 0, { action: 'drain', ids: ['o9'] }), /o9 is not in the ring/);
  await c.stop('o2');
  c.document('first', (members) => members.slice(1));
  await t.rejects(c.start('o2'), { code: 'CONFIG_INVALID', message: /o1 is not in it any more/ });
});

/** Pushes an image under `tag` to each of `count` repositories. */
async function pushSome(
  c: TestCluster,
  id: string,
  pushed: Map<string, Map<string, Pushed>>,
  count: number,
  tag: string,
): Promise<void> {
  for (let at = 0; at < count; at++) {
    const repository = `team/app${at}`;
    const tags = pushed.get(repository) ?? new Map<string, Pushed>();
    tags.set(tag, await pushTag(c, id, repository, tag));
    pushed.set(repository, tags);
  }
}

async function membershipOf(c: TestCluster, id: string): Promise<Membership> {
  const answer = await c.call(id, { method: 'GET', path: '/v1/ring' });
  return (JSON.parse(answer.bytes.toString()) as { membership: Membership }).membership;
}

function memberOf(c: TestCluster, id: string): unknown {
  return foundingMembership(c.cluster.file).origins.find((one) => one.id === id);
}

async function change(c: TestCluster, id: string, epoch: number, what: object): Promise<Membership> {
  const answer = await c.call(id, {
    method: 'POST',
    path: '/v1/ring/changes',
    body: JSON.stringify({ epoch, ...what }),
    headers: { 'content-type': 'application/json' },
  });
  const text = answer.bytes.toString();
  if (answer.status !== 200) throw new Error(`${answer.status} ${text}`);
  return JSON.parse(text) as Membership;
}

/** All that run are at `epoch`; the test's own view of the ring follows. */
async function untilEpoch(c: TestCluster, epoch: number): Promise<void> {
  let last: RingStatus[] = [];
  await until(
    async () => {
      const answers = await Promise.all(
        [...c.origins.keys()].map(async (id) => await c.call(id, { method: 'GET', path: '/v1/ring/status' })),
      );
      last = answers.map(({ bytes }) => JSON.parse(bytes.toString()) as RingStatus);
      return last.every((one) => one.epoch === epoch);
    },
    `all are at epoch ${epoch}`,
    CHANGE_MS,
  ).catch((error: unknown) => {
    throw new Error(`${String(error)}: ${JSON.stringify(last)}`);
  });
  c.cluster.follow(await membershipOf(c, last[0]!.id));
}
