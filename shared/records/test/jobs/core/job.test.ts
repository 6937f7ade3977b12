import t from 'tap';
import { byEnd, isOpen, type Job } from '../../../src/jobs/core/job.ts';

const job = (fields: Partial<Job<string>>): Job<string> => ({
  ...{ id: 'a', key: 'a', payload: 'p', state: 'done', addedAtMs: 0, notBeforeMs: 0, tries: 0, ...fields },
});

t.test('who ended longest ago comes first, and before it one of which nobody knows when', async (t) => {
  const [early, late, undated] = [job({ endedAtMs: 5 }), job({ endedAtMs: 9 }), job({})];
  for (const order of [
    [undated, early, late],
    [late, early, undated],
    [early, undated, late],
    [late, undated, early],
  ])
    t.same(order.toSorted(byEnd), [undated, early, late]);
  const other = job({ id: 'b' });
  t.same([undated, other].toSorted(byEnd), [undated, other], 'two of which nobody knows stay in their order');
  t.same([other, undated].toSorted(byEnd), [other, undated]);
});

t.test('what waits or runs is open, what ended is not', async (t) => {
  for (const state of ['waiting', 'running'] as const) t.ok(isOpen({ state }), state);
  for (const state of ['done', 'dead', 'cancelled'] as const) t.notOk(isOpen({ state }), state);
});
