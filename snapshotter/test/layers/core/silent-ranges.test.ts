import t from 'tap';
import { SilentRanges } from '../../../src/layers/core/silent-ranges.ts';

const range = (start: number, end: number, digest = 'a') => ({ digest, start, end });

t.test('ranges that share bytes with one that got nothing, for a few seconds', async (t) => {
  const silent = new SilentRanges();
  silent.note(range(100, 200), 0);
  t.ok(silent.has(range(150, 160), 4_999));
  t.ok(silent.has(range(0, 101), 4_999));
  t.notOk(silent.has(range(0, 100), 0), 'the one before it');
  t.notOk(silent.has(range(200, 300), 0), 'the one behind it');
  t.notOk(silent.has(range(150, 160, 'b'), 0), 'another blob');
  t.notOk(silent.has(range(150, 160), 5_000), 'later');
  silent.note(range(100, 200), 5_000);
  silent.clear();
  t.notOk(silent.has(range(100, 200), 5_000));
});

t.test('no more than a thousand are kept', async (t) => {
  const silent = new SilentRanges();
  for (let at = 0; at <= 1_000; at++) silent.note(range(at, at + 1), 0);
  t.notOk(silent.has(range(0, 1), 0));
  t.ok(silent.has(range(1_000, 1_001), 0));
});

t.test('a range takes the place of those within it alone', async (t) => {
  const silent = new SilentRanges();
  for (const one of [range(110, 120), range(50, 150), range(150, 250), range(110, 120, 'b')])
    silent.note(one, 0);
  silent.note(range(100, 200), 1_000);
  for (const one of [range(60, 70), range(220, 230), range(115, 116, 'b')]) t.ok(silent.has(one, 4_999));
  t.ok(silent.has(range(115, 116), 5_999), 'as long as it was asked for last');
  t.notOk(silent.has(range(60, 70), 5_999));
  t.notOk(silent.has(range(220, 230), 5_999));
});
