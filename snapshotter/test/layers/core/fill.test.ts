import t from 'tap';
import { FILL_QUIET_MS, nextFill } from '../../../src/layers/core/fill.ts';

const none = (): undefined => undefined;
const whole = { firstWanted: none, firstMissing: none };
const part = { firstWanted: none, firstMissing: (most: number) => ({ first: 3, last: 2 + most }) };
const wanting = { ...part, firstWanted: (most: number) => ({ first: 7, last: 6 + most }) };

t.test('filling waits while programs do, then takes the first that is missing', async (t) => {
  const quiet = { waiting: 0, lastReadMs: 1_000 };
  t.same(nextFill([whole, whole], quiet, 0), { type: 'done' });
  t.same(nextFill([], { waiting: 5, lastReadMs: 0 }, 0), { type: 'done' });
  t.same(nextFill([part], { waiting: 1, lastReadMs: 0 }, 50_000), {
    type: 'wait',
    untilMs: 50_000 + FILL_QUIET_MS,
  });
  t.same(nextFill([part], quiet, 1_500), { type: 'wait', untilMs: 1_000 + FILL_QUIET_MS });
  t.same(nextFill([whole, part], quiet, 1_000 + FILL_QUIET_MS), {
    type: 'fetch',
    layer: 1,
    run: { first: 3, last: 4 },
  });
});

t.test('what any layer wants first comes before what others miss', async (t) => {
  const quiet = { waiting: 0, lastReadMs: 0 };
  const step = nextFill([part, whole, wanting], quiet, FILL_QUIET_MS);
  t.same(step, { type: 'fetch', layer: 2, run: { first: 7, last: 8 } });
  t.equal(nextFill([wanting], { waiting: 1, lastReadMs: 0 }, 0).type, 'wait', 'programs come before it');
});
