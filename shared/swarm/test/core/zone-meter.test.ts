import t from 'tap';
import { ZoneMeter } from '../../src/core/zone-meter.ts';

const PIECE = 2 ** 20;

t.test('first four pieces may come across, then as many as the share of all allows', async (t) => {
  const meter = new ZoneMeter(0.5);
  t.ok(meter.mayCross(3));
  t.notOk(meter.mayCross(4));
  meter.add(4 * PIECE, true);
  t.notOk(meter.mayCross(0));
  meter.add(5 * PIECE, false);
  t.ok(meter.mayCross(0), 'five of ten');
  t.notOk(meter.mayCross(1));
});

t.test('a share of 1 is no cap', async (t) => {
  const meter = new ZoneMeter(1);
  meter.add(1_000 * PIECE, true);
  t.ok(meter.mayCross(1_000));
});
