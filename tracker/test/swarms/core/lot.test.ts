import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { Lot } from '../../../src/swarms/core/lot.ts';

t.test('holds what a set holds, and draws different ones of them', async () => {
  const step = fc.record({
    kind: fc.constantFrom('add', 'delete', 'draw'),
    item: fc.nat(12),
    lot: fc.nat(99),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const [lot, set] = [new Lot<number>(), new Set<number>()];
      return steps.every(({ kind, item, lot: chance }) => {
        if (kind === 'draw') {
          const drawn = lot.draw(item, () => chance / 100);
          const isRight = drawn.length === Math.min(item, set.size) && new Set(drawn).size === drawn.length;
          return isRight && drawn.every((one) => set.has(one));
        }
        lot[kind as 'add' | 'delete'](item);
        set[kind as 'add' | 'delete'](item);
        return lot.size === set.size && lot.has(item) === set.has(item);
      });
    }),
  );
});

t.test('each is drawn as often as any other, at each place', async (t) => {
  const lot = new Lot<number>();
  for (let at = 0; at < 6; at++) lot.add(at);
  // Every way that the chance can fall, once.
  const counts = new Map<string, number>();
  for (let first = 0; first < 6; first++)
    for (let second = 0; second < 5; second++) {
      const falls = [first / 6, second / 5];
      for (const [place, item] of lot.draw(2, () => falls.shift()!).entries())
        counts.set(`${place} ${item}`, (counts.get(`${place} ${item}`) ?? 0) + 1);
    }
  t.equal(counts.size, 12);
  t.same(new Set(counts.values()), new Set([5]));
});

t.test('drawing one by one comes to an end', async (t) => {
  const lot = new Lot<number>();
  for (const item of [1, 2, 3]) lot.add(item);
  const next = lot.drawing(() => 0.5);
  t.same([next(), next(), next()].sort(), [1, 2, 3]);
  t.equal(next(), undefined);
});
