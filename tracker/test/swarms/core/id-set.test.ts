import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { IdSet } from '../../../src/swarms/core/id-set.ts';

t.test('it is what a set of numbers is, whatever comes and goes', async (t) => {
  // Few ids meet at the same places; some are as large as they come.
  const id = fc.oneof(fc.nat(40), fc.constantFrom(0xfffffffe, 0xfffffffd, 2 ** 31, 2 ** 31 + 1));
  const step = fc.record({ add: fc.boolean(), id });
  let runs = 0;
  fc.assert(
    fc.property(fc.array(step, { maxLength: 300 }), (steps) => {
      const set = new IdSet();
      const model = new Set<number>();
      for (const { add, id } of steps) {
        const isChanged = add ? !model.has(id) : model.has(id);
        if ((add ? set.add(id) : set.delete(id)) !== isChanged) return false;
        if (add) model.add(id);
        else model.delete(id);
        if (set.has(id) !== add || set.size !== model.size) return false;
      }
      runs += 1;
      const [ours, theirs] = [[...set.values()].sort(), [...model].sort()];
      return ours.join() === theirs.join() && theirs.every((one) => set.has(one));
    }),
    { numRuns: 300 },
  );
  t.ok(runs >= 300, `${runs} runs`);
});

t.test('a thousand in turn and in any order, and it shrinks to nothing again', async (t) => {
  const set = new IdSet();
  for (let id = 0; id < 1_000; id++) set.add((id * 7_919) % 1_000);
  t.equal(set.size, 1_000);
  for (const id of set.values()) t.ok(set.delete(id));
  t.equal(set.size, 0);
  t.equal(set.values().length, 0);
  t.notOk(set.delete(5));
});
