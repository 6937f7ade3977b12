import { createHash } from 'node:crypto';
import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { shardKey } from '../src/cluster.ts';
import { ownersOf, type RingMember, rendezvous } from '../src/ring.ts';

const member = (id: string, weight = 1, state: RingMember['state'] = 'active'): RingMember => ({
  id,
  weight,
  state,
});
const ring = (count: number): RingMember[] =>
  Array.from({ length: count }, (_, index) => member(`o${index + 1}`));

t.test('owners, stand-ins and quorum follow the configured membership', async (t) => {
  t.match(ownersOf('k', ring(1)), { replicas: 1, writeQuorum: 1, standIns: [] });
  t.match(ownersOf('k', ring(2)), { replicas: 2, writeQuorum: 2, standIns: [] });
  const seven = ownersOf('k', ring(7));
  t.match({ replicas: seven.replicas, writeQuorum: seven.writeQuorum }, { replicas: 3, writeQuorum: 2 });
  t.equal(seven.standIns.length, 2);
  t.same([...seven.owners, ...seven.standIns], seven.order.slice(0, 5));
  t.match(ownersOf('k', []), { replicas: 0, owners: [] });
});

t.test('draining members own nothing and come last', async (t) => {
  const members = [...ring(3), member('gone', 100, 'draining')];
  const { owners, order } = ownersOf('k', members);
  t.notOk(owners.includes('gone'));
  t.equal(order.at(-1), 'gone');
  t.ok(ownersOf('k', [member('new', 1, 'joining')]).owners.includes('new'));
});

t.test('misuse is a TypeError', async (t) => {
  t.throws(() => ownersOf('k', [member('a'), member('a')]), TypeError);
  t.throws(() => ownersOf('k', [member('a', 0)]), TypeError);
});

t.test('the bytes that place a repository, and where they place it, stay as they are', async (t) => {
  t.equal(shardKey('harbor', 'team/app'), 'harbor\nteam/app');
  t.same(ownersOf(shardKey('harbor', 'team/app'), ring(7)).order, ['o3', 'o6', 'o7', 'o2', 'o1', 'o4', 'o5']);
});

t.test('the order is a fixed contract', async (t) => {
  t.same(rendezvous('sha256:00', ring(5)), rendezvous('sha256:00', ring(5).reverse()));
  t.matchOnly(rendezvous('sha256:00', ring(5)), ['o4', 'o2', 'o1', 'o3', 'o5']);
});

t.test('the order is by the first 53 bits of SHA-256(id, 0, key)', async () => {
  const scoreOf = (key: string, { id, weight }: RingMember): number => {
    const head = createHash('sha256').update(id).update('\0').update(key).digest().readBigUInt64BE(0);
    return -weight / Math.log((Number(head >> 11n) + 0.5) / 2 ** 53);
  };
  fc.assert(
    fc.property(fc.string(), fc.array(fc.double({ min: 0.1, max: 9, noNaN: true })), (key, weights) => {
      const members = weights.map((weight, at) => member(`o${at}`, weight));
      const expected = members.toSorted(
        (a, b) => scoreOf(key, b) - scoreOf(key, a) || (a.id < b.id ? -1 : 1),
      );
      return JSON.stringify(rendezvous(key, members)) === JSON.stringify(expected.map(({ id }) => id));
    }),
  );
});

t.test('a member that leaves moves only its own keys', async () => {
  fc.assert(
    fc.property(fc.string(), fc.integer({ min: 2, max: 9 }), fc.nat(), (key, count, pick) => {
      const members = ring(count);
      const before = rendezvous(key, members);
      const gone = members[pick % count]!.id;
      const after = rendezvous(
        key,
        members.filter(({ id }) => id !== gone),
      );
      return JSON.stringify(after) === JSON.stringify(before.filter((id) => id !== gone));
    }),
  );
});

t.test('keys spread by weight', async (t) => {
  const members = [member('a', 1), member('b', 1), member('c', 2)];
  const firsts = new Map<string, number>();
  for (let index = 0; index < 4000; index++) {
    const first = rendezvous(`key-${index}`, members)[0]!;
    firsts.set(first, (firsts.get(first) ?? 0) + 1);
  }
  t.ok(Math.abs(firsts.get('c')! - 2000) < 150, `c has ${firsts.get('c')} of 4000`);
  t.ok(Math.abs(firsts.get('a')! - 1000) < 150, `a has ${firsts.get('a')} of 4000`);
});
