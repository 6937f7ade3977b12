import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { RateLimit } from '../../../src/registry/core/rate-limit.ts';

t.test('a burst of one second passes, then requests wait, then they are refused', async (t) => {
  const limit = new RateLimit({ perSecond: 10, maxWaitMs: 500, maxKeys: 10 });
  for (let at = 0; at < 11; at++) t.equal(limit.admit('a', 0).type, 'go');
  t.same(limit.admit('a', 0), { type: 'wait', waitMs: 100 });
  t.same(limit.admit('a', 0), { type: 'wait', waitMs: 200 });
  for (let at = 0; at < 3; at++) t.equal(limit.admit('a', 0).type, 'wait');
  t.same(limit.admit('a', 0), { type: 'refuse', retryAfterMs: 600 });
  t.same(limit.admit('b', 0), { type: 'go' }, 'others are not concerned');
  t.equal(limit.admit('a', 10_000).type, 'go', 'and later it is forgotten');
});

t.test('0 is no limit, and remembers nobody', async (t) => {
  const limit = new RateLimit({ perSecond: 0, maxWaitMs: 0, maxKeys: 1 });
  for (let at = 0; at < 1_000; at++) t.equal(limit.admit('a', 0).type, 'go');
  t.equal(limit.keys, 0);
});

t.test('in the long run no more passes than the rate, and memory is bounded', async () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 50 }),
      fc.array(fc.tuple(fc.integer({ min: 0, max: 200 }), fc.integer({ min: 0, max: 3 })), {
        maxLength: 500,
      }),
      (perSecond, steps) => {
        const limit = new RateLimit({ perSecond, maxWaitMs: 300, maxKeys: 3 });
        const passed = new Map<number, number>();
        let nowMs = 1_000_000;
        for (const [stepMs, key] of steps.filter(([, key]) => key < 3)) {
          nowMs += stepMs;
          if (limit.admit(String(key), nowMs).type !== 'refuse') passed.set(key, (passed.get(key) ?? 0) + 1);
        }
        const seconds = (nowMs - 1_000_000) / 1_000;
        for (const count of passed.values()) if (count > perSecond * (seconds + 1.3) + 2) return false;
        return limit.keys <= 3;
      },
    ),
  );
});
