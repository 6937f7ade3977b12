import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { BeatPace } from '../../../src/node/core/beat-pace.ts';

t.test('a node heeds its tracker, sooner while something runs', async (t) => {
  const pace = new BeatPace();
  t.equal(pace.answered({ heartbeatMs: 10_000, watchedMs: 4_000, hasMore: false }, false), 10_000);
  t.equal(pace.answered({ heartbeatMs: 10_000, watchedMs: 4_000, hasMore: false }, true), 4_000);
  t.equal(
    pace.answered({ heartbeatMs: 10_000, hasMore: false }, true),
    1_000,
    'a tracker of the former version',
  );
  t.equal(pace.answered({ heartbeatMs: 500, watchedMs: 1_000, hasMore: false }, true), 500);
  t.equal(pace.answered({ heartbeatMs: 10_000, watchedMs: 4_000, hasMore: true }, false), 500);
  t.equal(pace.answered({ heartbeatMs: 1e9, watchedMs: 1e9, hasMore: false }, true), 60_000);
});

t.test('a tracker that fails is asked less and less, and as before once it answers', async (t) => {
  const pace = new BeatPace();
  pace.answered({ heartbeatMs: 10_000, hasMore: false }, false);
  t.same(Array.from({ length: 20 }, () => pace.failed()).slice(0, 5), [2_000, 4_000, 8_000, 10_000, 10_000]);
  t.equal(pace.answered({ heartbeatMs: 10_000, hasMore: false }, true), 1_000);
  t.equal(pace.failed(), 2_000);
});

t.test('a lease outlasts the next heartbeat and a lost one, whatever was said', async (t) => {
  const answer = fc.record({
    heartbeatMs: fc.integer({ min: 100, max: 600_000 }),
    watchedMs: fc.option(fc.integer({ min: 100, max: 600_000 }), { nil: undefined }),
    hasMore: fc.boolean(),
  });
  fc.assert(
    fc.property(answer, fc.boolean(), (said, isWatched) => {
      const pace = new BeatPace();
      const nextMs = pace.answered(said, isWatched);
      // The shell spreads a heartbeat by a fifth either way.
      return nextMs >= 100 && nextMs <= 60_000 && pace.leaseMs >= 2 * 1.2 * nextMs;
    }),
  );
  t.pass('held');
});
