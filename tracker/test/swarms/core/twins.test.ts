import t from 'tap';
import { Twins } from '../../../src/swarms/core/twins.ts';

/** The twin that a tracker sees after heartbeats of these processes, one a second. */
function seen(bootIds: string, options: { keepMs?: number; stepMs?: number } = {}): string | undefined {
  const { keepMs = 10_000, stepMs = 1_000 } = options;
  const twins = new Twins();
  let last = '';
  let nowMs = 0;
  for (const bootId of bootIds) {
    if (last !== '' && last !== bootId)
      twins.changed('n', { bootId: last, address: `${last}.example:1` }, bootId, nowMs, keepMs);
    last = bootId;
    nowMs += stepMs;
  }
  return twins.of('n', nowMs - stepMs)?.address;
}

t.test(
  'two processes whose heartbeats come by turns are twins, and each is the other of the other',
  async (t) => {
    t.equal(seen('abababa'), 'b.example:1');
    t.equal(seen('abababab'), 'a.example:1');
    t.equal(seen('aabbbaabbba'), 'b.example:1', 'however often each is heard');
    t.equal(seen('xababab'), 'a.example:1', 'after another one');
  },
);

t.test('a process that was started anew is none, nor is a heartbeat that was late', async (t) => {
  t.equal(seen('aaaa'), undefined);
  t.equal(seen('abcdefgh'), undefined, 'restarts');
  t.equal(seen('abab'), undefined, 'one that was late');
  t.equal(seen('abcbcd'), undefined, 'one that was late beside a restart');
});

t.test('what was seen long ago is forgotten, and of others nothing is known', async (t) => {
  t.equal(seen('abababa', { keepMs: 1_000 }), undefined, 'they come further apart than leases last');
  t.equal(seen('abababaaaaaaaaaaa'), undefined, 'the other one is gone');
  t.equal(new Twins().of('m', 0), undefined);
});
