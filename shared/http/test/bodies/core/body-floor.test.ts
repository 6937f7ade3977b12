import t from 'tap';
import { demandPace } from '../../../src/bodies/core/body-floor.ts';
import { BODY_GRACE_MS } from '../../../src/deadlines/bodies.ts';

t.test('a body has its grace, and the time of the slowest line', (t) => {
  demandPace(0, BODY_GRACE_MS);
  demandPace(4 * 1024 * 1024, BODY_GRACE_MS + 1_024_000);
  t.throws(() => demandPace(1, BODY_GRACE_MS + 1_000), { code: 'TIMEOUT', detail: { sizeBytes: 1 } });
  t.throws(() => demandPace(4 * 1024 * 1024, BODY_GRACE_MS + 1_024_001), { code: 'TIMEOUT' });
  t.end();
});
