import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { Placing } from '../../../src/blobs/core/placing.ts';

const OWNERS = ['o1', 'o2', 'o3'];
const STAND_INS = ['s1', 's2'];

function placingAt(selfId: string, sets: readonly (readonly string[])[] = [OWNERS]): Placing {
  return new Placing(selfId, { owners: [...new Set(sets.flat())], standIns: STAND_INS }, sets);
}

t.test('an owner counts its own copy and asks the others; two of three are enough', async (t) => {
  const placing = placingAt('o2');
  t.same(placing.owners, ['o1', 'o3']);
  t.equal(placing.copies, 1);
  t.notOk(placing.isEnough);
  placing.took('o3');
  t.ok(placing.isEnough);
  t.equal(placing.failed(), undefined, 'nobody takes the place of one that is not needed');
  t.equal(placing.copies, 2);
});

t.test('who is neither owner nor stand-in counts nothing of its own', async (t) => {
  const placing = placingAt('x');
  t.same(placing.owners, OWNERS);
  t.equal(placing.copies, 0);
  t.equal(placing.failed(), 's1', 'stand-ins in their order, one for each that failed');
  t.equal(placing.failed(), 's2');
  t.equal(placing.failed(), undefined, 'nobody is left');
  t.equal(placing.copies, 0);
  placing.took('s2');
  t.notOk(placing.isEnough);
  placing.took('o1');
  t.ok(placing.isEnough);
});

t.test('a stand-in has the blob already: it counts before others are asked, once', async (t) => {
  const placing = placingAt('s2');
  t.same(placing.owners, OWNERS);
  t.equal(placing.copies, 0, 'not while all owners may take it');
  t.equal(placing.failed(), undefined);
  t.equal(placing.copies, 1);
  t.equal(placing.failed(), 's1');
  t.equal(placing.failed(), undefined);
  t.equal(placing.copies, 1);
});

t.test('in a ring change both sets of owners need their copies; a stand-in counts in each', async (t) => {
  const sets = [OWNERS, ['o3', 'o4', 'o5']];
  const placing = placingAt('o1', sets);
  t.same(placing.owners, ['o2', 'o3', 'o4', 'o5']);
  placing.took('o2');
  t.notOk(placing.isEnough, 'all of one set, none of the other');
  placing.took('o4');
  t.notOk(placing.isEnough);
  placing.took('s1');
  t.ok(placing.isEnough);
});

t.test('whatever fails, nobody is asked twice, and it gives up only when nobody is left', async (t) => {
  const all = [...OWNERS, 'o4', ...STAND_INS, 'x'];
  const sets = fc.constantFrom([['o1']], [['o1', 'o2']], [OWNERS], [OWNERS, ['o2', 'o3', 'o4']]);
  const outcomes = fc.array(fc.boolean(), { minLength: 8, maxLength: 8 });
  fc.assert(
    fc.property(fc.constantFrom(...all), sets, outcomes, (selfId, ownerSets, takes) => {
      const placing = placingAt(selfId, ownerSets);
      const asked = [...placing.owners];
      const holders = new Set(ownerSets.flat().includes(selfId) ? [selfId] : []);
      for (let at = 0; at < asked.length; at++) {
        const wasEnough = placing.isEnough;
        if (takes[at]) {
          placing.took(asked[at]!);
          holders.add(asked[at]!);
        } else {
          const before = placing.copies;
          const next = placing.failed();
          if (next !== undefined) asked.push(next);
          if (placing.copies > before) holders.add(selfId);
          if (wasEnough && (next !== undefined || placing.copies > before)) return false;
        }
        const isIn = (set: readonly string[]): number => set.filter((id) => holders.has(id)).length;
        const others = [...holders].filter((id) => !ownerSets.flat().includes(id)).length;
        const isEnough = ownerSets.every((set) => 2 * (isIn(set) + others) > set.length);
        if (placing.isEnough !== isEnough || placing.copies !== holders.size) return false;
      }
      const used = new Set([...asked, ...holders]);
      const isExhausted = STAND_INS.every((id) => used.has(id));
      return (
        new Set(asked).size === asked.length && !asked.includes(selfId) && (placing.isEnough || isExhausted)
      );
    }),
  );
  t.pass('held');
});
