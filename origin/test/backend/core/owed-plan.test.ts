import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { OwedPlan } from '../../../src/backend/core/owed-plan.ts';

const TIMES = { lookMs: 5_000, takeOverMs: 300_000, firstRetryMs: 1_000, maxRetryMs: 60_000 };
const plan = (maxKnown = 100): OwedPlan => new OwedPlan({ times: TIMES, maxKnown });

t.test('the leader writes at once, the others look, and write when it does not come', async (t) => {
  const owed = plan();
  owed.add('a', 10, 0);
  t.same(owed.due(0), ['a']);
  t.equal(owed.step('a', true, 0), 'write');
  t.equal(owed.step('a', false, 0), 'wait');
  t.same(owed.due(4_999), []);
  t.same(owed.due(5_000), ['a']);
  t.equal(owed.step('a', false, 5_000), 'look');
  owed.notYet('a', 5_000);
  t.equal(owed.nextMs(5_000), 5_000);
  owed.notYet('a', 10_000);
  t.equal(owed.nextMs(10_000), 10_000, 'less and less often');
  t.equal(owed.step('a', false, 300_000), 'write', 'the leader did not');
  owed.done('a');
  t.same([owed.size, owed.bytes, owed.due(400_000), owed.nextMs(0)], [0, 0, [], undefined]);
  t.equal(owed.step('a', true, 0), 'wait');
});

t.test('failures are tried again, with patience where it is asked for', async (t) => {
  const owed = plan();
  owed.add('a', 10, 0);
  t.equal(owed.failed('a', undefined, 0), 1);
  t.equal(owed.nextMs(0), 1_000);
  t.equal(owed.failed('a', 7_000, 0), 2);
  t.equal(owed.nextMs(0), 7_000);
  t.equal(owed.failed('a', 1e12, 0), 3);
  t.equal(owed.nextMs(0), 60_000);
});

t.test('whatever comes, nothing owed is forgotten, and the book has a limit', async (t) => {
  const step = fc.record({
    what: fc.constantFrom('add', 'done', 'failed', 'read'),
    which: fc.nat({ max: 30 }),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200, size: 'max' }), (steps) => {
      const owed = plan(10);
      const record = new Set<string>();
      for (const [nowMs, { what, which }] of steps.entries()) {
        const digest = `d${which}`;
        if (what === 'add') {
          record.add(digest);
          owed.add(digest, which, nowMs);
        } else if (what === 'failed') owed.failed(digest, undefined, nowMs);
        else if (what === 'done' && owed.due(nowMs).includes(digest)) {
          owed.done(digest);
          record.delete(digest);
        } else if (what === 'read' && owed.wantsMore) {
          if ([...record].every((one) => owed.add(one, Number(one.slice(1)), nowMs))) owed.allRead();
        }
        const known = owed.due(1e9);
        if (owed.size > 10 || known.length !== owed.size) return false;
        if (owed.bytes !== known.reduce((sum, one) => sum + Number(one.slice(1)), 0)) return false;
      }
      for (let round = 0; round < 100 && record.size > 0; round++) {
        for (const one of owed.due(1e9)) {
          owed.done(one);
          record.delete(one);
        }
        if (owed.wantsMore && [...record].every((one) => owed.add(one, Number(one.slice(1)), 0)))
          owed.allRead();
      }
      return record.size === 0;
    }),
  );
  t.pass();
});

t.test(
  'a backend that fails is given a rest, longer each time, and what it is owed waits for that',
  async (t) => {
    const owed = plan();
    for (const digest of ['a', 'b', 'c']) owed.add(digest, 10, 0);
    t.same([owed.at('a', 'one', 0), owed.at('b', 'one', 0), owed.at('c', 'two', 0)], [true, true, true]);
    t.equal(owed.retryMs('one', 0), undefined);
    t.equal(owed.paused('one', undefined, 0), 1);
    t.equal(owed.paused('one', undefined, 10), 0, 'what was under way says nothing new');
    t.same(owed.due(10), ['c'], 'others go on');
    t.notOk(owed.at('a', 'one', 10));
    owed.done('c');
    t.equal(owed.nextMs(10), 990);
    t.equal(owed.retryMs('one', 10), 990);
    t.same(owed.due(1_000), ['a', 'b']);
    t.equal(owed.paused('one', undefined, 1_000), 2);
    t.equal(owed.nextMs(1_000), 2_000, 'twice as long');
    t.equal(owed.paused('one', 1e12, 3_000), 3);
    t.equal(owed.nextMs(3_000), 60_000, 'as long as it asks for, within a limit');
    t.match(owed.sumOf('one'), { blobs: 2, bytes: 20, oldestMs: 0 });
    t.match(owed.sumOf('two'), { blobs: 0, bytes: 0, oldestMs: undefined });
    t.ok(owed.answered('one'));
    t.notOk(owed.answered('one'), 'it had not failed');
    t.same(owed.due(3_000), ['a', 'b']);
  },
);

t.test('a full book leaves what comes on record, and asks for it when there is room', async (t) => {
  const owed = plan(4);
  t.equal(owed.oldestMs, undefined, 'nothing is owed');
  owed.allRead();
  for (const [at, digest] of ['a', 'b', 'c', 'd'].entries()) t.ok(owed.add(digest, 10, 5 + at));
  t.ok(owed.add('a', 10, 9), 'known already');
  t.notOk(owed.wantsMore);
  t.notOk(owed.add('e', 10, 9), 'no room');
  t.same([owed.size, owed.bytes, owed.oldestMs], [4, 40, 5]);
  for (const digest of ['a', 'b', 'c']) owed.done(digest);
  t.equal(owed.oldestMs, 8);
  t.ok(owed.wantsMore, 'what had no room is on record');
});

t.test('what comes late for a blob that is no longer owed changes nothing', async (t) => {
  const owed = plan();
  owed.add('a', 10, 0);
  owed.done('gone');
  owed.notYet('gone', 0);
  t.equal(owed.failed('gone', undefined, 0), 0);
  t.same([owed.size, owed.bytes, owed.due(0)], [1, 10, ['a']]);
});
