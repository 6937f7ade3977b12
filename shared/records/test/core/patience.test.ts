import t from 'tap';
import { Waits } from '../../src/core/patience.ts';

t.test('without patience each message may take the short time, whatever was before', async (t) => {
  const waits = new Waits(800, undefined, 5_000);
  t.equal(waits.messageMs('a', 5_000, false), 800);
  waits.silent('a', 800);
  t.equal(waits.messageMs('a', 90_000, false), 800);
});

t.test('with patience more, but for who is gone or was silent for all of it', async (t) => {
  const waits = new Waits(800, { messageMs: 4_000, deadlineMs: 10_000 }, 5_000);
  t.equal(waits.messageMs('a', 5_000, false), 4_000);
  t.equal(waits.messageMs('a', 5_000, true), 800);
  waits.silent('a', 800);
  t.equal(waits.messageMs('a', 5_800, false), 4_000, 'it had the short time only, and is back');
  waits.silent('a', 4_000);
  t.equal(waits.messageMs('a', 9_000, false), 800);
  t.equal(waits.messageMs('b', 9_000, false), 4_000);
});

t.test('patience ends with its deadline', async (t) => {
  const waits = new Waits(800, { messageMs: 4_000, deadlineMs: 10_000 }, 5_000);
  t.equal(waits.messageMs('a', 11_000, false), 4_000);
  t.equal(waits.messageMs('a', 13_000, false), 2_000);
  t.equal(waits.messageMs('a', 14_500, false), 800);
  t.equal(waits.messageMs('a', 60_000, false), 800);
});
