import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { backoffMs } from '../../src/async/backoff.ts';

t.test('a wait doubles from the first to the ceiling', async (t) => {
  t.same(
    [0, 1, 2, 3, 4, 5, 6, 100, 1e9].map((failures) => backoffMs(failures, 500, 6_000)),
    [0, 500, 1_000, 2_000, 4_000, 6_000, 6_000, 6_000, 6_000],
  );
  t.equal(backoffMs(-3, 500, 6_000), 0);
  t.equal(backoffMs(Number.NaN, 500, 6_000), 0);
  t.equal(backoffMs(1, 500, 100), 100, 'a ceiling below the first wait holds');
});

t.test('any count gives a whole wait between nothing and the ceiling that never gets shorter', async (t) => {
  fc.assert(
    fc.property(
      fc.nat(1e6),
      fc.integer({ min: 1, max: 1e5 }),
      fc.integer({ min: 1, max: 1e9 }),
      (n, first, max) => {
        const wait = backoffMs(n, first, max);
        return Number.isSafeInteger(wait) && wait <= max && wait <= backoffMs(n + 1, first, max);
      },
    ),
  );
  t.pass('no count was found that does not');
});
