import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { Reach, steadyMs } from '../src/reach.ts';

t.test('nobody answers for long enough: that is a lack, until somebody does', async (t) => {
  const reach = new Reach({ whom: 'trackers', patienceMs: 10_000 });
  t.equal(reach.lack(0), undefined, 'nothing is known');
  reach.failed('t1', 'silent', 'does not answer', 1_000);
  reach.failed('t2', 'silent', 'does not answer', 2_000);
  t.equal(reach.lack(10_999), undefined);
  t.match(reach.lack(11_000), { kind: 'silent', why: /none of the trackers has answered for 10 s \(t1: / });
  reach.failed('t2', 'refused', 'date is off', 12_000);
  t.match(reach.lack(12_000), { kind: 'refused', why: /t2: date is off/ }, 'a refusal is the better reason');
  reach.answered();
  t.equal(reach.lack(99_000), undefined);
});

t.test('whatever came before, one answer ends a lack', async () => {
  const step = fc.oneof(fc.constant('answered' as const), fc.constantFrom('silent', 'refused'));
  fc.assert(
    fc.property(fc.array(step), (steps) => {
      const reach = new Reach({ whom: 'origins', patienceMs: 5 });
      steps.forEach((one, at) => {
        if (one === 'answered') reach.answered();
        else reach.failed(`m${at % 3}`, one, 'x', at);
      });
      reach.answered();
      return reach.lack(1e9) === undefined;
    }),
  );
});

t.test('steady time begins at wall time and never goes back', async (t) => {
  const first = steadyMs();
  t.ok(Math.abs(first - Date.now()) < 60_000);
  t.ok(steadyMs() >= first);
});
