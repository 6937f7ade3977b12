import t from 'tap';
import { SpareSpans } from '../../../src/layers/core/spare-spans.ts';

t.test('what was used last stays, within the budget', async (t) => {
  const spare = new SpareSpans({ budgetBytes: 10, fullMs: 5 });
  spare.put('a', 1, Buffer.alloc(4));
  spare.put('a', 2, Buffer.alloc(4));
  t.same([...spare.of('a', [1]).keys()], [1]);
  spare.put('b', 1, Buffer.alloc(4));
  t.same([...spare.of('a', [1, 2]).keys()], [1], 'the second was used longest ago');
  t.equal(spare.bytes, 8);
  spare.put('b', 1, Buffer.alloc(5));
  t.equal(spare.bytes, 9, 'a span is here once');
  spare.drop('b', 1);
  spare.drop('b', 1);
  t.equal(spare.bytes, 4);
});

t.test('one stays in any case, however large', async (t) => {
  const spare = new SpareSpans({ budgetBytes: 10, fullMs: 5 });
  spare.put('a', 1, Buffer.alloc(4));
  spare.put('a', 2, Buffer.alloc(40));
  t.same([...spare.of('a', [1, 2]).keys()], [2]);
});

t.test('a layer that goes takes its spans along', async (t) => {
  const spare = new SpareSpans({ budgetBytes: 100, fullMs: 5 });
  spare.put('a', 1, Buffer.alloc(4));
  spare.put('ab', 1, Buffer.alloc(7));
  spare.forget('a');
  t.equal(spare.bytes, 7);
  t.equal(spare.of('ab', [1]).size, 1);
});

t.test('the disk is full for a while after a write found no room', async (t) => {
  const spare = new SpareSpans({ budgetBytes: 100, fullMs: 5 });
  t.notOk(spare.isFull(0));
  t.ok(spare.noteFull(10), 'that is news');
  t.notOk(spare.noteFull(14), 'and is not told again');
  t.ok(spare.isFull(18));
  t.notOk(spare.isFull(19));
});
