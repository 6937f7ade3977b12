import t from 'tap';
import { wishOf } from '../../src/cluster/wish.ts';

t.test('the piece that is read first, where it can be told', async (t) => {
  t.same(wishOf('', undefined), { all: true });
  t.same(wishOf('bytes=5-', 100), { all: true }, 'a download that is resumed');
  t.same(wishOf('bytes=3000000-3000001', undefined), { all: false, piece: 2 });
  t.same(wishOf('bytes=-5', undefined), { all: false }, 'where the end is nobody knows yet');
});

t.test('no tracker is told of a piece that no blob has, which it would refuse', async (t) => {
  t.same(wishOf('bytes=20000000000000-20000000000005', undefined), { all: false });
  t.same(wishOf('bytes=-5,0-1', undefined), { all: false });
});
