import t from 'tap';
import { begin, countsFor, grant, leave, takeOver, ungenerated } from '../../src/core/standing.ts';

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

t.test('who never had records has none when it leaves', async (t) => {
  const left = leave(begin(ungenerated('o1'), 6, false));
  t.equal(grant(left, { id: 'o2', generation: 1 }).type, 'not-yet');
});
