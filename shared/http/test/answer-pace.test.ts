import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { AnswerPace } from '../src/answer-pace.ts';

t.test('fast answers keep the least deadline', async (t) => {
  const pace = new AnswerPace();
  t.equal(pace.timeoutMs(900, 4000), 900);
  for (let at = 0; at < 50; at++) pace.note(5);
  t.equal(pace.timeoutMs(900, 4000), 900);
});

t.test('slow and uneven answers stretch it, up to the most', async (t) => {
  const pace = new AnswerPace();
  for (let at = 0; at < 50; at++) pace.note(at % 2 === 0 ? 50 : 600);
  const stretched = pace.timeoutMs(900, 4000);
  t.ok(stretched > 1500 && stretched <= 4000, String(stretched));
  for (let at = 0; at < 50; at++) pace.note(5000);
  t.equal(pace.timeoutMs(900, 4000), 4000);
});

t.test('it recovers when answers are fast again', async (t) => {
  const pace = new AnswerPace();
  pace.note(3000);
  for (let at = 0; at < 100; at++) pace.note(2);
  t.equal(pace.timeoutMs(900, 4000), 900);
});

t.test(
  'any samples keep the wait in whole ms within its bounds, and it comes back to the least',
  async () => {
    const sample = fc.oneof(
      fc.double({ min: 0, max: 1e5 }),
      fc.double(),
      fc.constantFrom(Number.NaN, Infinity, -1, 0.1 + 0.2, 'missed' as const),
    );
    fc.assert(
      fc.property(
        fc.array(sample, { maxLength: 200 }),
        fc.integer({ min: 1, max: 5_000 }),
        (samples, leastMs) => {
          const pace = new AnswerPace();
          const mostMs = leastMs + 3_100.5;
          const isSound = (): boolean => {
            const ms = pace.timeoutMs(leastMs, mostMs);
            AbortSignal.timeout(ms);
            return Number.isInteger(ms) && ms >= leastMs && ms <= mostMs;
          };
          for (const one of samples) {
            if (one === 'missed') pace.missed();
            else pace.note(one);
            if (!isSound()) return false;
          }
          for (let at = 0; at < 200; at++) pace.note(0.7);
          return pace.timeoutMs(leastMs, mostMs) === leastMs;
        },
      ),
    );
  },
);

t.test('when nobody answers in time, the wait grows until somebody can', async (t) => {
  const pace = new AnswerPace();
  for (let at = 0; at < 50; at++) pace.note(10);
  for (let at = 0; at < 4; at++) pace.missed();
  t.equal(pace.timeoutMs(900, 4_000), 4_000);
  pace.note(3_000);
  const after = pace.timeoutMs(900, 4_000);
  t.ok(after >= 3_000, `a member that needs 3 s is heard from then on (${after} ms)`);
});
