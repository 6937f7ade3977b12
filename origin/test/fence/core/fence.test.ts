import t from 'tap';
import { FENCE_MS, REMOVE_MS } from '../../../src/deadlines/members.ts';
import { Fence, MAX_CONDEMNED } from '../../../src/fence/core/fence.ts';

t.test('what is condemned may be removed for a while by its own sweep alone', async (t) => {
  const fence = new Fence();
  t.same(fence.condemn('g1', ['a', 'b'], 1_000), []);
  t.equal(fence.size, 2);
  t.ok(fence.mayRemove('g1', 'a', 1_000));
  t.notOk(fence.mayRemove('g2', 'a', 1_000), 'another sweep');
  t.notOk(fence.mayRemove('g1', 'c', 1_000), 'not condemned');
  t.notOk(fence.mayRemove('g1', 'a', 1_000 + REMOVE_MS), 'too late');
  t.ok(fence.isCondemned('a', 1_000 + REMOVE_MS), 'and refused for longer than it may be removed');
  t.notOk(fence.isCondemned('a', 1_000 + FENCE_MS), 'a sweep that died holds nothing for ever');
});

t.test('one sweep at a time holds the fence', async (t) => {
  const fence = new Fence();
  t.same(fence.condemn('g1', ['a'], 0), []);
  t.equal(fence.condemn('g2', ['b'], FENCE_MS - 1), false);
  t.same(fence.condemn('g1', ['b'], 10), [], 'the same goes on');
  t.notOk(fence.isCondemned('a', 10), 'with other keys in place of those before');
  fence.release('g2');
  t.ok(fence.isCondemned('b', 10), 'release of another');
  fence.release('g1');
  t.notOk(fence.isCondemned('b', 10));
  t.same(fence.condemn('g2', ['b'], 20), []);
  t.same(fence.condemn('g3', ['c'], 20 + FENCE_MS), [], 'a silent one is replaced');
  t.notOk(fence.mayRemove('g2', 'b', 20 + FENCE_MS));
  const many = Array.from({ length: MAX_CONDEMNED + 1 }, (_, index) => `k${index}`);
  t.equal(fence.condemn('g3', many, 20 + FENCE_MS), false, 'bounded');
});

t.test('what is in use is not condemned, what is condemned not used, what is written rescued', async (t) => {
  const fence = new Fence();
  t.equal(fence.use(['a', 'b'], 0), undefined);
  t.equal(fence.use(['a'], 0), undefined);
  t.same(fence.condemn('g', ['a', 'b', 'c', 'd', 'e'], 0), ['a', 'b']);
  t.equal(fence.use(['x', 'c'], 0), 'c');
  fence.write(['d']);
  t.notOk(fence.mayRemove('g', 'd', 0));
  fence.rescue('e');
  t.notOk(fence.isCondemned('e', 0));
  fence.done(['a', 'b']);
  t.same(
    fence.condemn('g', ['a', 'b', 'd', 'x'], 0),
    ['a', 'd'],
    'uses are counted; a refused use leaves none',
  );
  fence.done(['a', 'd']);
  t.same(fence.condemn('g', ['a', 'd'], 0), []);
});

t.test('what a backend holds is trusted only while no sweep has it in hand', async (t) => {
  const fence = new Fence();
  t.ok(fence.trust('a', 0), 'no sweep runs');
  t.same(fence.condemn('g', ['a', 'b', 'c'], 0), ['a'], 'it is in use until it is done');
  fence.done(['a']);
  t.ok(fence.trust('a', 0), 'and was left out');
  t.notOk(fence.trust('b', 0), 'condemned');
  fence.rescue('b');
  fence.write(['c']);
  t.notOk(fence.trust('b', 0), 'rescued here, and on its way out elsewhere');
  t.notOk(fence.trust('c', 0));
  t.equal(fence.use(['b', 'c'], 0), undefined, 'the copies here are relied on');
  t.ok(fence.trust('b', FENCE_MS), 'a sweep that died holds nothing for ever');
  fence.release('g');
  t.ok(fence.trust('c', 0));
});
