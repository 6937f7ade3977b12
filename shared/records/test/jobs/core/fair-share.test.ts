import t from 'tap';
import { hasNoPlace } from '../../../src/jobs/core/fair-share.ts';

t.test("what is nobody's is for whoever comes first, until all places are taken", async (t) => {
  t.notOk(hasNoPlace(2, [undefined], undefined), 'the last place');
  t.ok(hasNoPlace(2, [undefined, undefined], undefined));
  t.ok(hasNoPlace(2, ['a', 'b', undefined], undefined), 'there are fewer places than before');
});

t.test('an owner gets as many places as it leaves free, and whoever comes next still gets in', async (t) => {
  t.notOk(hasNoPlace(4, ['a'], 'a'));
  t.ok(hasNoPlace(4, ['a', 'a'], 'a'), 'half of them');
  t.notOk(hasNoPlace(4, ['a', 'a'], 'b'));
  t.ok(hasNoPlace(4, ['a', 'a', 'b'], 'b'), 'one is left for a third');
  t.notOk(hasNoPlace(4, ['a', 'a', 'b'], 'c'));
  t.ok(hasNoPlace(4, ['a', 'a', 'b', 'c'], 'd'), 'none is left');
});
