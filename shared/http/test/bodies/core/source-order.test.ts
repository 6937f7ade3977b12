import t from 'tap';
import { SourceOrder } from '../../../src/bodies/core/source-order.ts';
import { RENEW_MS, STALL_MS } from '../../../src/deadlines/bodies.ts';

const NONE: ReadonlySet<string> = new Set();
const WHOLE = { ids: ['a', 'b', 'c'], areWhole: true };

t.test('the best is asked first, then whoever gave the last read', async (t) => {
  const order = new SourceOrder(WHOLE);
  t.equal(order.holders, WHOLE);
  t.same(order.next([], NONE, true), { type: 'ask', id: 'a' });
  t.equal(order.gave('b'), false, 'nobody gave anything before');
  t.equal(order.last, 'b');
  t.same(order.next([], NONE, true), { type: 'ask', id: 'b' });
  t.equal(order.gave('b'), false);
  t.equal(order.gave('c'), true, 'it took over');
  t.same(order.next([], new Set(['c']), true), { type: 'ask', id: 'a' }, 'who was tried is not asked again');
});

t.test('another is asked beside one that stalls, which is given up later', async (t) => {
  const order = new SourceOrder(WHOLE);
  const tried = new Set(['a']);
  const asked = (silentMs: number) => [{ id: 'a', silentMs }];
  t.same(order.next(asked(STALL_MS - 1), tried, true), { type: 'wait' });
  t.same(order.next(asked(STALL_MS), tried, true), { type: 'ask', id: 'b' });
  const both = [...asked(STALL_MS), { id: 'b', silentMs: 0 }];
  t.same(order.next(both, new Set(['a', 'b']), true), { type: 'wait' }, 'one of both is not silent');
  t.same(order.next(asked(RENEW_MS), tried, true), { type: 'give-up', ids: ['a'] });
  t.same(
    order.next(asked(RENEW_MS), tried, false),
    { type: 'wait' },
    'silence is no fault where the piece is not there yet',
  );
});

t.test('those that failed come last, liars never; then nobody is left', async (t) => {
  const order = new SourceOrder(WHOLE);
  order.failed('a');
  t.same(order.next([], NONE, true), { type: 'ask', id: 'b' });
  order.gave('b');
  order.lied('b');
  t.equal(order.last, undefined);
  order.lied('c');
  t.same(order.next([], NONE, true), { type: 'ask', id: 'a' }, 'it failed, but it is all there is');
  order.gave('a');
  t.same(order.next([], NONE, true), { type: 'ask', id: 'a' });
  order.lied('a');
  t.same(order.next([], NONE, true), { type: 'nobody' });
  order.found({ ids: ['a', 'd'], areWhole: false });
  t.same(order.next([], NONE, true), { type: 'ask', id: 'd' }, 'a lied before');
  order.lied('d');
  order.found({ ids: ['a', 'd'], areWhole: false });
  t.same(order.next([], NONE, true), { type: 'ask', id: 'a' }, 'where all lied, they are believed once more');
});
