import t from 'tap';
import { FIRST_FILL_PAUSE_MS, LONGEST_FILL_PAUSE_MS } from '../../../src/deadlines.ts';
import { Rests } from '../../../src/layers/core/rests.ts';

t.test('a layer rests ever longer, for itself, until something of it came', async (t) => {
  const rests = new Rests<object>();
  const [one, other] = [{}, {}];
  t.equal(rests.failed(one, 1_000), FIRST_FILL_PAUSE_MS);
  t.equal(rests.untilMs(one), 1_000 + FIRST_FILL_PAUSE_MS);
  t.equal(rests.untilMs(other), undefined);
  t.equal(rests.failed(one, 5_000), 2 * FIRST_FILL_PAUSE_MS);
  for (let tries = 0; tries < 10; tries++) rests.failed(one, 0);
  t.equal(rests.failed(one, 7_000), LONGEST_FILL_PAUSE_MS);
  rests.served(one);
  t.equal(rests.untilMs(one), undefined);
  t.equal(rests.failed(one, 0), FIRST_FILL_PAUSE_MS);
});
