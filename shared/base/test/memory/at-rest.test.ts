import { forgetAtRest, forgetsAtRest } from '@sepia/base/memory/at-rest';
import t from 'tap';

t.test('what can be had again is forgotten at each rest', async (t) => {
  const kept = [new Map([['a', 1]]), new Map([['b', 2]])].map((map) => ({
    map,
    forgetAll: () => map.clear(),
  }));
  for (const one of kept) forgetsAtRest(one);
  forgetAtRest();
  t.same(
    kept.map(({ map }) => map.size),
    [0, 0],
  );
  kept[0]!.map.set('a', 1);
  forgetAtRest();
  t.equal(kept[0]!.map.size, 0);
});
