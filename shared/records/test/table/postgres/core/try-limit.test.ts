import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { tryLimitMs } from '../../../../src/table/postgres/core/try-limit.ts';

t.test('a try that hangs leaves time for another, the last one takes what is left', async (t) => {
  const tries: number[] = [];
  for (let leftMs = 8_000; leftMs > 0; leftMs -= tries.at(-1)!) tries.push(tryLimitMs(leftMs));
  t.same(tries, [4_000, 2_000, 2_000]);
  t.equal(tryLimitMs(500), 500);
  t.equal(tryLimitMs(-3), 1, 'never none: that would be no limit');
});

t.test(
  'a try is never longer than what is left, nor so short that a busy database cannot answer',
  async () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 60_000 }), (leftMs) => {
        const limitMs = tryLimitMs(leftMs);
        return limitMs <= leftMs && limitMs >= Math.min(1_500, leftMs);
      }),
    );
  },
);
