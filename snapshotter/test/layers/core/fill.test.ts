import t from 'tap';
import { FILL_LOOK_MS, FILL_QUIET_MS } from '../../../src/deadlines.ts';
import { type FillPolicy, fillsRest, mayFetchFirst, nextFill } from '../../../src/layers/core/fill.ts';

const whole = { firstMissing: (): undefined => undefined };
const part = { firstMissing: (most: number) => ({ first: 3, last: 2 + most }) };

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

t.test(
  'layers of which nothing came have their turn behind the others, the longest waiting first',
  async (t) => {
    const quiet = { waiting: 0, lastReadMs: 0 };
    const nowMs = 100_000;
    const next = (...restsUntilMs: (number | undefined)[]) =>
      nextFill(
        restsUntilMs.map((ms) => ({ ...part, restsUntilMs: ms })),
        quiet,
        nowMs,
      );
    const fetched = (layer: number) => ({ type: 'fetch', layer, run: { first: 3, last: 4 } });
    t.same(next(nowMs - 5, undefined, undefined), fetched(1));
    t.same(next(nowMs, nowMs - 5), fetched(1));
    t.same(next(nowMs + 20, nowMs + 10), { type: 'wait', untilMs: nowMs + 10 });
    t.same(next(nowMs + 60_000), { type: 'wait', untilMs: nowMs + FILL_LOOK_MS }, 'others may be added');
  },
);

t.test('one lane goes on beside programs that wait', async (t) => {
  const lanes = (waiting: number): boolean[] =>
    [0, 1, 2].map((lane) => mayFetchFirst(lane, { waiting, lastReadMs: 0 }));
  t.same(lanes(0), [true, true, true]);
  t.same(lanes(3), [true, false, false]);
});

t.test('by size, images of less than 1 GiB are filled', async (t) => {
  const GIB = 1024 ** 3;
  const filled = (policy: FillPolicy): boolean[] =>
    [0, GIB - 1, GIB, 50 * GIB].map((bytes) => fillsRest(policy, bytes));
  t.same(filled('by-size'), [true, true, false, false]);
  t.same(filled('all'), [true, true, true, true]);
  t.same(filled('start'), [false, false, false, false]);
  t.same(filled('none'), [false, false, false, false]);
});
