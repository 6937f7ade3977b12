import t from 'tap';
import { Patience } from '../../../src/downloads/core/patience.ts';

const LIMITS = { progressMs: 10_000, stallMs: 30_000 };

t.test('before anybody has a byte the shorter limit counts, from the last progress on', (t) => {
  const patience = new Patience(LIMITS, 0);
  t.notOk(patience.isOver(10_000));
  t.ok(patience.isOver(10_001));
  patience.progress(9_000);
  t.notOk(patience.isOver(19_000));
  t.ok(patience.isOver(19_001));
  t.end();
});

t.test('once somebody has bytes, the longer one', (t) => {
  const patience = new Patience(LIMITS, 0);
  patience.begun();
  t.notOk(patience.isOver(30_000));
  t.ok(patience.isOver(30_001));
  t.equal(patience.silentMs(30_001), 30_001);
  const odd = new Patience({ progressMs: 10_000, stallMs: 5_000 }, 0);
  odd.begun();
  t.notOk(odd.isOver(10_000), 'never shorter than before');
  t.end();
});

t.test('bytes that came to the origins are progress, the same number again is not', (t) => {
  const patience = new Patience(LIMITS, 0);
  t.notOk(patience.mayLook(1_999));
  t.ok(patience.mayLook(2_000), 'asked early: what stopped long ago is no progress of now');
  patience.fetched(500, 2_000);
  t.notOk(patience.mayLook(3_999));
  patience.fetched(500, 4_100);
  t.notOk(patience.mayLook(6_000));
  t.ok(patience.mayLook(6_100));
  patience.fetched(100, 6_200);
  t.notOk(patience.isOver(12_000));
  t.ok(patience.isOver(12_001), 'a fetch that was begun again has less');
  patience.fetched(501, 12_100);
  t.notOk(patience.isOver(22_100));
  t.end();
});
