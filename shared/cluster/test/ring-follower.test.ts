import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { MemberClock } from '@sepia/base/clock/member-clock';
import { silentLogger } from '@sepia/base/log';
import { createDispatcher } from '@sepia/http/sockets';
import { until } from '@sepia/test-support/until';
import t, { type Test } from 'tap';
import { H_EPOCH } from '../src/api/headers.ts';
import { Cluster } from '../src/cluster.ts';
import type { ClusterDocument } from '../src/document.ts';
import { beginChange, endChange, foundingMembership, type Membership } from '../src/membership.ts';
import { followingClient } from '../src/ring-follower.ts';

function ringOf(...ids: string[]): Membership {
  const members = ids.map((id) => ({
    id,
    role: 'origin',
    urls: ['http://x:1'],
    peers: [],
    weight: 1,
    state: 'active',
  }));
  return foundingMembership({ members: members as never });
}

function drained(ring: Membership, id: string): Membership {
  return endChange(beginChange(ring, { action: 'drain', ids: [id] }));
}

/** A proxy, and origins that name the ring that they are `told`, or one of their own. */
async function world(t: Test) {
  const made = {
    told: ringOf('o1', 'o2', 'o3'),
    toldBy: new Map<string, Membership>(),
    asked: 0,
    errors: 0,
  };
  const dispatcher = createDispatcher();
  t.teardown(async () => await dispatcher.destroy());
  const urls = new Map<string, string>();
  for (const { id } of made.told.origins) {
    const server = createServer(({ url }, res) => {
      if (url === '/v1/ring') made.asked += 1;
      const told = made.toldBy.get(id) ?? made.told;
      res.setHeader(H_EPOCH, told.epoch);
      res.end(JSON.stringify({ founded: true, membership: told }));
    });
    await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
    t.teardown(() => server.close());
    urls.set(id, `http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  }
  const cluster = new Cluster({
    version: 1,
    members: made.told.origins.map((one) => ({ ...one, urls: [urls.get(one.id)!] })),
    upstreams: [],
  } as unknown as ClusterDocument);
  const error = (): void => {
    made.errors += 1;
  };
  const log = { ...silentLogger(), error } as never;
  const deps = { dispatcher, clusterKey: Buffer.alloc(32, 7), memberId: 'p1', clock: new MemberClock() };
  const client = followingClient(cluster, log, deps);
  const call = async (to = 'o1'): Promise<unknown> =>
    await client.json({ url: urls.get(to)!, to, method: 'GET', path: '/v1/x', headersTimeoutMs: 5_000 });
  return { made, cluster, call };
}

t.test('who is no origin follows later epochs of its ring, and none of another one', async (t) => {
  const { made, cluster, call } = await world(t);
  const own = drained(made.told, 'o3');
  made.told = own;
  await call();
  await until(() => cluster.epoch === 2, 'the newer epoch is followed');
  made.told = drained(drained(ringOf('o1', 'o2', 'o7'), 'o7'), 'o1');
  await call();
  await until(() => made.errors === 1, 'the other ring is refused');
  const { asked } = made;
  for (let at = 0; at < 5; at++) await call();
  t.same(cluster.membership, own);
  t.same([made.asked, made.errors], [asked, 1], 'asked for and logged once');
  made.told = drained(own, 'o2');
  await call('o2');
  await until(() => cluster.epoch === 4, 'its own ring is followed from then on');
});

t.test('one origin of another ring does not decide for who knows none yet', async (t) => {
  const { made, cluster, call } = await world(t);
  made.told = drained(made.told, 'o3');
  const foreign = drained(drained(ringOf('o1', 'o2', 'o7'), 'o7'), 'o1');
  made.toldBy.set('o2', foreign);
  await call('o2');
  await until(() => cluster.epoch === 2, 'the ring that most name is followed');
  t.same(cluster.membership, made.told);
  await call('o2');
  await until(() => made.errors === 1, 'the other one is refused');
  t.same(cluster.membership, made.told);
});

t.test('who keeps a key is what the membership says that was followed last', (t) => {
  const ring = ringOf('o1', 'o2', 'o3', 'o4');
  const cluster = new Cluster({ version: 1, members: [], upstreams: [] } as unknown as ClusterDocument);
  t.same(cluster.origins('a').owners, []);
  cluster.follow(ring);
  const [first] = cluster.origins('a').owners;
  t.ok(cluster.shard('a').sets.flat().includes(first!));
  t.equal(cluster.origins('a'), cluster.origins('a'), 'it is remembered');
  cluster.follow(drained(ring, first!));
  t.notOk(cluster.origins('a').owners.includes(first!));
  t.same(cluster.shard('a'), { epoch: cluster.epoch, sets: [cluster.origins('a').owners] });
  t.end();
});
