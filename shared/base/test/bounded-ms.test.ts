import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { boundedMs, MAX_TIMER_MS } from '../src/bounded-ms.ts';
import { delay, pause } from '../src/lifecycle.ts';

const ANY_NUMBER = fc.oneof(
  fc.double(),
  fc.integer(),
  fc.constantFrom(Number.NaN, Infinity, -Infinity, 2 ** 53),
);

t.test('any number becomes whole ms within the bounds, and a timer takes it', async (t) => {
  fc.assert(
    fc.property(ANY_NUMBER, fc.nat(10_000), fc.nat(2 ** 32), (ms, leastMs, mostMs) => {
      const found = boundedMs(ms, leastMs, mostMs);
      AbortSignal.timeout(found);
      return (
        Number.isInteger(found) &&
        found >= leastMs &&
        found <= Math.max(leastMs, mostMs, 0) &&
        found <= MAX_TIMER_MS
      );
    }),
  );
  t.equal(boundedMs(900.25), 901);
  t.equal(boundedMs(Number.NaN, 5), 5);
});

t.test('a wait beyond what timers take does not end at once', async (t) => {
  const stop = new AbortController();
  const long = delay(Number.MAX_SAFE_INTEGER, stop.signal);
  const paused = pause(2 ** 31, stop.signal);
  t.equal(await Promise.race([long, paused, delay(20).then(() => 'still waiting')]), 'still waiting');
  stop.abort(new Error('enough'));
  await t.rejects(long, { message: 'enough' });
  t.equal(await paused, false);
  t.equal(await pause(1, new AbortController().signal), true);
  t.equal(await pause(1_000, AbortSignal.abort()), false);
});
