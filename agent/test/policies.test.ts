import { MAX_LEASE_SEEDS } from '@sepia/cluster/api/lease';
import { setHash } from '@sepia/cluster/api/set-hash';
import t from 'tap';
import { Distrust } from '../src/blobs/core/distrust.ts';
import { DISTRUST_MS, REFUSE_MS } from '../src/deadlines.ts';
import { LeaseBook } from '../src/node/core/lease-book.ts';
import { sourceDelayMs } from '../src/source/core/back-to-source.ts';

t.test('back to source: never when switched off or without a registry behind', async (t) => {
  t.equal(sourceDelayMs({ mode: 'never', afterMs: 5000 }, true, 60_000, 0), undefined);
  t.equal(sourceDelayMs({ mode: 'auto', afterMs: 5000 }, false, 60_000, 0), undefined);
});

t.test('back to source: waits for the silence, spread by node and digest', async (t) => {
  const policy = { mode: 'auto', afterMs: 5000 } as const;
  t.equal(sourceDelayMs(policy, true, 0, 0), 5000);
  t.equal(sourceDelayMs(policy, true, 0, 0.5), 7500);
  t.equal(sourceDelayMs(policy, true, 4000, 0), 1000);
  t.equal(sourceDelayMs(policy, true, 60_000, 0.9), 0);
});

t.test('distrust: one more try, verified first; then refused; known for a day', async (t) => {
  const distrust = new Distrust();
  t.equal(distrust.verdict('d', 0), 'trusted');
  distrust.note('d', 0);
  t.equal(distrust.verdict('d', 1), 'verify-first');
  distrust.note('d', 2);
  t.equal(distrust.verdict('d', 3), 'refused');
  t.equal(distrust.verdict('d', 2 + REFUSE_MS), 'refused');
  t.equal(distrust.verdict('d', 3 + REFUSE_MS), 'verify-first');
  t.ok(distrust.isKnown('d', 3 + REFUSE_MS));
  t.ok(distrust.isKnown('d', 2 + DISTRUST_MS));
  t.equal(distrust.verdict('d', 3 + DISTRUST_MS), 'trusted');
  t.notOk(distrust.isKnown('d', 3 + DISTRUST_MS));
});

t.test('lease book: tells each tracker its digests once, and what went', async (t) => {
  const book = new LeaseBook();
  book.touch('d1', ['t1', 't2', 't3']);
  const first = book.change('t1');
  t.same(first, { set: ['d1'], add: ['d1'], drop: [] });
  t.same(book.change('t3').set, [], 'only its tracker and the next in order');
  book.told('t1', first, false);
  t.same(book.change('t1').add, []);
  book.drop('d1');
  t.same(book.change('t1'), { set: [], add: [], drop: ['d1'] });
});

t.test('lease book: after a resync everything is told again', async (t) => {
  const book = new LeaseBook();
  book.touch('d1', ['t1']);
  book.told('t1', book.change('t1'), true);
  t.same(book.change('t1').add, ['d1']);
  t.equal(setHash(['a', 'b']), setHash(['b', 'a']));
});

t.test('lease book: the oldest seed gives way', async (t) => {
  const book = new LeaseBook();
  for (let at = 0; at < MAX_LEASE_SEEDS; at++) t.equal(book.touch(`d${at}`, ['t1']), undefined);
  book.touch('d0', ['t1']);
  t.equal(book.touch('new', ['t1']), 'd1');
});
