import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { LatestMap } from '../src/latest-map.ts';

t.test('keeps what was set last, in the order of setting', async (t) => {
  const map = new LatestMap<string, number>(2).set('a', 1).set('b', 2).set('a', 3).set('c', 4);
  t.same(
    [...map],
    [
      ['a', 3],
      ['c', 4],
    ],
  );
  map.get('a');
  map.set('d', 5);
  t.same([...map.keys()], ['c', 'd'], 'reading renews nothing');
});

t.test('holds at most its limit, and always the last ones that were set', async (t) => {
  let runs = 0;
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 8 }), fc.array(fc.integer({ min: 0, max: 12 })), (limit, keys) => {
      runs += 1;
      const map = new LatestMap<number, number>(limit);
      for (const [at, key] of keys.entries()) map.set(key, at);
      const latest = [...new Set(keys.toReversed())].slice(0, limit).toReversed();
      return JSON.stringify([...map.keys()]) === JSON.stringify(latest);
    }),
  );
  t.ok(runs >= 100);
});
