import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { CORE_LIMITS } from '../../../src/core/limits.ts';
import { Rate } from '../../../src/core/line/rate.ts';
import { makeLink } from '../../support/core.ts';

t.test('any samples keep a rate within its bounds, and it follows what comes after', async () => {
  const step = fc.record({ bytes: fc.nat(2 ** 31), ms: fc.double({ min: 0, max: 1e9, noNaN: true }) });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 100 }), (steps) => {
      const rate = new Rate(0);
      let nowMs = 0;
      for (const { bytes, ms } of steps) {
        nowMs += ms;
        rate.add(bytes, nowMs);
        if (rate.bytesPerSec !== 0 && !(rate.bytesPerSec >= 1024 && rate.bytesPerSec <= 1e11)) return false;
      }
      rate.restart(nowMs);
      for (let at = 0; at < 100; at++) {
        nowMs += 200;
        rate.add(2_000_000, nowMs);
      }
      return Math.abs(rate.bytesPerSec - 1e7) < 1e5;
    }),
  );
});

t.test('any traffic keeps the queue of a link within its limits, and it comes back', async (t) => {
  const step = fc.record({
    bytes: fc.nat(2 ** 24),
    ms: fc.double({ min: 0, max: 1e8, noNaN: true }),
    ends: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const link = makeLink();
      let nowMs = 0;
      const isSound = (): boolean => {
        const depth = link.depth(CORE_LIMITS);
        return (
          Number.isInteger(depth) &&
          depth >= CORE_LIMITS.depthMin &&
          depth <= CORE_LIMITS.depthMax &&
          Number.isFinite(link.costMs()) &&
          link.costMs() > 0
        );
      };
      for (const { bytes, ms, ends } of steps) {
        if (!link.fetches.has(0)) link.begin(0, nowMs);
        nowMs += ms;
        link.onBytes(0, bytes, nowMs);
        if (ends) link.end(0);
        if (!isSound()) return false;
      }
      for (let at = 0; at < 100; at++) {
        link.end(0);
        link.begin(0, nowMs);
        nowMs += 100;
        link.onBytes(0, 2 ** 20, nowMs);
      }
      return isSound() && link.costMs() < 1_000;
    }),
  );
  t.pass();
});
