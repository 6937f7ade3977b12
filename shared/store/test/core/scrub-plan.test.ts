import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { nextPass, ScrubPace, type ScrubPlace } from '../../src/core/scrub-plan.ts';

const DAY = 86_400_000;

t.test('a pass is finished before the next one is due', async (t) => {
  t.same(nextPass(undefined, 5, DAY), { place: { beganMs: 5 } });
  const place: ScrubPlace = {
    beganMs: 5,
    after: `sha256:${'a'.repeat(64)}` as NonNullable<ScrubPlace['after']>,
  };
  t.same(nextPass(place, 5 + 9 * DAY, DAY), { place });
  t.same(nextPass({ beganMs: 5, isOver: true }, 6, DAY), { waitMs: DAY - 1 });
  t.same(nextPass({ beganMs: 5, isOver: true }, 5 + DAY, DAY), { place: { beganMs: 5 + DAY } });
  t.same(nextPass({ beganMs: 5, isOver: true }, 5, 0), { waitMs: 1_000 }, 'never one right after the other');
});

t.test('whatever the clock does, the next pass is at most one period away', async (t) => {
  fc.assert(
    fc.property(
      fc.double({ noNaN: true, min: -1e15, max: 1e15 }),
      fc.double({ noNaN: true, min: 0, max: 1e15 }),
      fc.integer({ min: 0, max: 400 * DAY }),
      (beganMs, nowMs, everyMs) => {
        const next = nextPass({ beganMs, isOver: true }, nowMs, everyMs);
        return !('waitMs' in next) || next.waitMs <= Math.max(everyMs, 1_000);
      },
    ),
  );
  t.pass();
});

t.test('a scrub reads at its rate, wakes seldom, and makes nothing up for later', async (t) => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 2 ** 31 }),
      fc.array(fc.tuple(fc.integer({ min: 0, max: 2 ** 20 }), fc.integer({ min: 0, max: 20_000 })), {
        minLength: 1,
      }),
      (rate, steps) => {
        const pace = new ScrubPace(rate);
        let nowMs = 0;
        let idleMs = 0;
        let bytes = 0;
        for (const [read, late] of steps) {
          bytes += read;
          const pauseMs = pace.read(read, nowMs);
          if (pauseMs !== 0 && pauseMs < 1_000) return false;
          nowMs += pauseMs;
          // At most two seconds of the rate are ahead of the time: one of credit, one that is saved up for a pause.
          if (bytes > ((nowMs - idleMs + 2_001) / 1_000) * rate) return false;
          nowMs += late;
          idleMs += Math.max(0, late - 20_000);
        }
        return true;
      },
    ),
  );
  t.pass();
});
