import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { Patience } from '../../../src/downloads/core/patience.ts';

const LIMITS = { progressMs: 10_000, stallMs: 30_000 };

function isOver(patience: Patience, nowMs: number): boolean {
  return patience.next(nowMs, false) === 'give-up';
}

function isLook(patience: Patience, nowMs: number): boolean {
  return patience.next(nowMs, true) === 'look';
}

t.test('before anybody has a byte the shorter limit counts, from the last progress on', async (t) => {
  const patience = new Patience(LIMITS, 0);
  t.notOk(isOver(patience, 10_000));
  t.ok(isOver(patience, 10_001));
  patience.progress(9_000);
  t.notOk(isOver(patience, 19_000));
  t.ok(isOver(patience, 19_001));
});

t.test('once somebody has bytes, the longer one', async (t) => {
  const patience = new Patience(LIMITS, 0);
  patience.begun();
  t.notOk(isOver(patience, 30_000));
  t.ok(isOver(patience, 30_001));
  t.equal(patience.silentMs(30_001), 30_001);
  const odd = new Patience({ progressMs: 10_000, stallMs: 5_000 }, 0);
  odd.begun();
  t.notOk(isOver(odd, 10_000), 'never shorter than before');
});

t.test('bytes that came to the origins are progress, the same number again is not', async (t) => {
  const patience = new Patience(LIMITS, 0);
  t.notOk(isLook(patience, 1_999));
  t.ok(isLook(patience, 2_000), 'asked early: what stopped long ago is no progress of now');
  patience.fetched(500, 2_000);
  t.notOk(isLook(patience, 3_999));
  patience.fetched(500, 4_100);
  t.notOk(isLook(patience, 6_000));
  t.ok(isLook(patience, 6_100));
  patience.fetched(100, 6_200);
  t.notOk(isOver(patience, 12_000));
  t.ok(isOver(patience, 12_001), 'a fetch that was begun again has less');
  patience.fetched(501, 12_100);
  t.notOk(isOver(patience, 22_100));
});

t.test('silence ends at its limit, whatever the limits and however often it is looked at', async () => {
  const anyMs = (max: number) => fc.integer({ min: 1, max });
  const cases = {
    progressMs: anyMs(20_000),
    stallMs: anyMs(60_000),
    everyMs: anyMs(3_000),
    askMs: anyMs(2_000),
  };
  fc.assert(
    fc.property(fc.record({ ...cases, begun: fc.boolean() }), ({ begun, everyMs, askMs, ...limits }) => {
      const patience = new Patience(limits, 0);
      if (begun) patience.begun();
      const limitMs = begun ? Math.max(limits.progressMs, limits.stallMs) : limits.progressMs;
      for (let nowMs = everyMs; nowMs <= limitMs + 3 * (everyMs + askMs); nowMs += everyMs) {
        const step = patience.next(nowMs, true);
        if (step === 'give-up') return nowMs > limitMs;
        if (step !== 'look') continue;
        nowMs += askMs;
        patience.fetched(0, nowMs);
      }
      return false;
    }),
  );
});

t.test('bytes that come while a short limit passes are progress', async (t) => {
  const patience = new Patience({ progressMs: 1_000, stallMs: 1_000 }, 0);
  let bytes = 0;
  for (let nowMs = 500; nowMs < 60_000; nowMs += 500) {
    const step = patience.next(nowMs, true);
    t.not(step, 'give-up');
    if (step === 'look') patience.fetched(++bytes, nowMs);
  }
  t.ok(bytes > 10, `${bytes}`);
});

t.test('while a slow line brings bytes of it there is patience, though no piece is whole', async (t) => {
  const patience = new Patience(LIMITS, 0);
  for (let nowMs = 500; nowMs <= 40_000; nowMs += 500) {
    patience.arrived({ ownBytes: nowMs, lineBytes: 8 * nowMs }, true, nowMs);
    t.notOk(isOver(patience, nowMs), `after ${nowMs} ms`);
  }
  patience.arrived({ ownBytes: 40_000, lineBytes: 8 * 40_000 }, true, 40_500);
  t.notOk(isOver(patience, 50_000));
  t.ok(isOver(patience, 50_001), 'nothing comes any more');
});

t.test(
  'bytes of other blobs on the same line are a reason to wait where somebody serves this one',
  async (t) => {
    const served = new Patience(LIMITS, 0);
    const alone = new Patience(LIMITS, 0);
    for (let nowMs = 500; nowMs <= 20_000; nowMs += 500) {
      served.arrived({ ownBytes: 0, lineBytes: nowMs }, true, nowMs);
      alone.arrived({ ownBytes: 0, lineBytes: nowMs }, false, nowMs);
    }
    t.notOk(isOver(served, 20_000));
    t.ok(isOver(alone, 20_000));
  },
);

t.test('bytes that never become a piece are not waited for for ever', async (t) => {
  const patience = new Patience(LIMITS, 0);
  const at = (nowMs: number): boolean => {
    patience.arrived({ ownBytes: nowMs, lineBytes: nowMs }, true, nowMs);
    return isOver(patience, nowMs);
  };
  for (let nowMs = 500; nowMs <= 120_000; nowMs += 500) t.notOk(at(nowMs));
  t.ok(at(120_500));
  patience.progress(120_500);
  t.notOk(at(121_000));
});
