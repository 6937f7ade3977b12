import type { Shard } from '@sepia/cluster/ring';
import t from 'tap';
import {
  admitEpoch,
  begin,
  counted,
  countsFor,
  grant,
  isReadQuorum,
  leave,
  newerOf,
  takeOver,
  ungenerated,
} from '../../src/core/standing.ts';

const SETS = [['o1', 'o2', 'o3']];

t.test('who left counts no more, and counts again when enough others handed over', async (t) => {
  const member = { ...ungenerated('o1'), generation: 5, handed: ['o2', 'o3'] };
  t.ok(countsFor(member, SETS));
  const left = leave(member);
  t.notOk(countsFor(left, SETS));
  t.equal(grant(left, { id: 'o2', generation: 1 }).type, 'granted', 'what it keeps it may hand over');
  const back = begin(left, 6, left.kept);
  const once = takeOver(back, { id: 'o2', generation: 3, known: {}, epoch: 7 }, SETS);
  t.notOk(countsFor(once, SETS));
  t.ok(countsFor(takeOver(once, { id: 'o3', generation: 4, known: {}, epoch: 7 }, SETS), SETS));
});

t.test('one source that hands over twice is still one', async (t) => {
  const back = begin(ungenerated('o1'), 6, false);
  const source = { id: 'o2', generation: 3, known: {}, epoch: 7 };
  const once = takeOver(back, source, SETS);
  const twice = takeOver(once, { ...source, generation: 4, known: { o3: 2 }, epoch: 8 }, SETS);
  t.same(twice.handed, ['o2']);
  t.notOk(countsFor(twice, SETS));
  t.match(twice, { known: { o3: 2 }, epoch: 8 }, 'what it knows since then is taken over');
});

t.test('who never had records has none when it leaves', async (t) => {
  const left = leave(begin(ungenerated('o1'), 6, false));
  t.equal(grant(left, { id: 'o2', generation: 1 }).type, 'not-yet');
});

t.test('a generation is never begun twice, and an older one is told so', async (t) => {
  const first = begin(ungenerated('o1'), 6, true);
  t.throws(() => begin(first, 6, true), TypeError);
  const source = ungenerated('o2');
  const granted = grant(source, { id: 'o1', generation: 6 });
  t.match(granted, { type: 'granted', next: { known: { o1: 6 } } });
  if (granted.type !== 'granted') return;
  t.same(grant(granted.next, { id: 'o1', generation: 5 }), { type: 'outdated', known: 6 });
  t.same(grant(granted.next, { id: 'o1', generation: 6 }), { type: 'granted', next: granted.next });
});

t.test('a message of an older epoch is refused, one of a newer is remembered', async (t) => {
  const member = { ...ungenerated('o1'), epoch: 4 };
  t.equal(admitEpoch(member, 3), undefined);
  t.equal(admitEpoch(member, 4), member);
  t.equal(admitEpoch(member, 6)?.epoch, 6);
});

t.test('a reply does not count beside one that knows a newer generation of its sender', async (t) => {
  const reply = (id: string, generation: number, known: Record<string, number> = {}) => ({
    sender: { id, generation, known },
  });
  const old = reply('o1', 5);
  const knowing = reply('o2', 1, { o1: 6 });
  t.same(counted([old, knowing]), [knowing]);
  t.same(counted([reply('o1', 6), knowing]).length, 2);
  t.same(newerOf({ o1: 5, o2: 3 }, { o1: 6, o2: 2, o3: 1, o4: 9 }, 'o4'), { o1: 6, o2: 3, o3: 1 });
});

t.test(
  'as many are read as share an owner with every majority; in a change, a majority of both rings',
  async (t) => {
    const three = shardOf(SETS);
    t.notOk(isReadQuorum(['o1'], three));
    t.ok(isReadQuorum(['o1', 'o3'], three));
    const four = shardOf([['o1', 'o2', 'o3', 'o4']]);
    t.ok(isReadQuorum(['o1', 'o2'], four), 'three of four took every write');
    t.notOk(isReadQuorum([], shardOf([[]])));
    const moving = shardOf([
      ['o1', 'o2', 'o3'],
      ['o2', 'o3', 'o4'],
    ]);
    t.notOk(isReadQuorum(['o1', 'o2'], moving));
    t.ok(isReadQuorum(['o2', 'o3'], moving));
  },
);

function shardOf(sets: readonly (readonly string[])[]): Shard {
  return { sets, epoch: 1 } as unknown as Shard;
}
