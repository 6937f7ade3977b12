import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { FetchSize } from '../../../src/fetch/core/fetch-size.ts';

const BELOW = 1_000;

t.test('what the upstream states wins over what a manifest told', async (t) => {
  const size = new FetchSize({ isTold: true, doubtBelowBytes: BELOW });
  t.notOk(size.isStated);
  t.equal(size.answered(901, false, 900), 'begin-anew');
  t.ok(size.isStated);
  t.equal(size.answered(900, false, 900), 'goes');
  t.equal(size.answered(900, true, 901), 'lies', 'others go by it now');
});

t.test(
  'a told size that no answer states: a small blob is fetched without it, a big one by it',
  async (t) => {
    const small = new FetchSize({ isTold: true, doubtBelowBytes: BELOW });
    t.equal(small.answered(BELOW, false, undefined), 'begin-anew');
    const big = new FetchSize({ isTold: true, doubtBelowBytes: BELOW });
    t.equal(big.answered(BELOW + 1, false, undefined), 'goes');
    t.notOk(big.isStated, 'it stays in doubt');
  },
);

t.test(
  'whatever an upstream states, the fetch begins anew a few times only, and never once it is shown',
  async (t) => {
    const stated = fc.option(fc.nat(3_000), { nil: undefined });
    const check = fc.property(
      fc.boolean(),
      fc.nat(3_000),
      fc.array(stated, { maxLength: 40 }),
      (isTold, first, answers) => {
        const size = new FetchSize({ isTold, doubtBelowBytes: BELOW });
        let known = first;
        let isShown = false;
        let again = 0;
        for (const found of answers) {
          const verdict = size.answered(known, isShown, found);
          if (verdict === 'fails') return !isShown && again === 3;
          if (verdict === 'goes') {
            if (found !== undefined && found !== known) return false;
            isShown = true;
          }
          if (verdict === 'begin-anew') {
            if (isShown || ++again > 3) return false;
            if (found !== undefined) known = found;
          }
          if (verdict === 'lies' && !isShown) return false;
        }
        return true;
      },
    );
    t.doesNotThrow(() => fc.assert(check));
  },
);
