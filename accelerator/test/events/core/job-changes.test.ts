import t from 'tap';
import { jobChanges } from '../../../src/events/core/job-changes.ts';

t.test('what is new or another is told in its order, then what is gone', async (t) => {
  const before = new Map([
    ['a', '1'],
    ['b', '1'],
    ['c', '1'],
  ]);
  const now = new Map([
    ['d', '1'],
    ['b', '2'],
    ['c', '1'],
  ]);
  t.strictSame(jobChanges(before, now), [
    { type: 'job', id: 'd', text: '1' },
    { type: 'job', id: 'b', text: '2' },
    { type: 'gone', id: 'a' },
  ]);
  t.strictSame(jobChanges(now, now), []);
  t.strictSame(jobChanges(new Map(), new Map()), []);
});
