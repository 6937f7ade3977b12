import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { OwnTime } from '../../../src/event-loop/core/own-time.ts';

/** How long a wait takes where the looks come so much later than they are due. */
function takenMs(waitMs: number, lateMs: (look: number) => number): number {
  const startMs = 1_000;
  let nowMs = startMs;
  const time = new OwnTime(waitMs, nowMs);
  for (let dueMs = time.look(nowMs), look = 0; dueMs > 0; dueMs = time.look(nowMs), look++)
    nowMs += dueMs + lateMs(look);
  return nowMs - startMs;
}

t.test('a process that is on time waits as long as it was told', async (t) => {
  for (const ms of [1, 7, 150, 500, 4_501])
    t.equal(
      takenMs(ms, () => 0),
      ms,
    );
  t.equal(
    takenMs(0, () => 0),
    0,
  );
});

t.test('what it was late by is waited for as well', async (t) => {
  t.equal(
    takenMs(800, (look) => (look === 2 ? 900 : 0)),
    1_700,
    'one long turn',
  );
  t.equal(
    takenMs(800, () => 50),
    800 + 8 * 50,
    'each look is late',
  );
});

t.test('one that is always late ends all the same', async (t) => {
  t.equal(
    takenMs(100, () => 1_000),
    1_013,
    'with the first look after four times its length',
  );
  t.equal(
    takenMs(800, () => 500),
    3_600,
  );
});

t.test('a clock that stands or goes back, and timers that come early, end nothing too soon', async (t) => {
  const time = new OwnTime(80, 1_000);
  t.equal(time.look(1_000), 10);
  t.equal(time.look(1_000), 10);
  t.equal(time.look(900), 10);
  t.equal(time.look(909.5), 10);
});

t.test('never shorter than asked for, never longer than four times and one late look', async () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 10_000 }),
      fc.array(fc.nat(3_000), { minLength: 1 }),
      (ms, late) => {
        const taken = takenMs(ms, (look) => late[look % late.length]!);
        return taken >= ms && taken <= 4 * ms + Math.ceil(ms / 8) + Math.max(...late);
      },
    ),
  );
});
