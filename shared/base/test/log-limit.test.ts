import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { LogLimit } from '../src/log-limit.ts';

t.test('one line a key, so many in all, and none is forgotten', async (t) => {
  const everyMs = 100;
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.constantFrom('a', 'b', 'c', 'd'), fc.nat(40)), { maxLength: 200 }),
      fc.integer({ min: 1, max: 5 }),
      (events, lines) => {
        const limit = new LogLimit({ everyMs, lines });
        const said: { key: string; atMs: number }[] = [];
        let [nowMs, told] = [0, 0];
        for (const [key, passedMs] of events) {
          nowMs += passedMs;
          const unsaid = limit.take(key, nowMs);
          if (unsaid === undefined) continue;
          told += unsaid + 1;
          if (said.some((one) => one.key === key && nowMs - one.atMs < everyMs)) return false;
          said.push({ key, atMs: nowMs });
        }
        // A window may begin right behind another one.
        const isFew = said.every(
          ({ atMs }) =>
            said.filter((one) => one.atMs >= atMs && one.atMs < atMs + everyMs).length <= 2 * lines,
        );
        return isFew && told <= events.length;
      },
    ),
  );
  const limit = new LogLimit({ everyMs, lines: 10 });
  t.equal(limit.take('a', 0), 0);
  t.equal(limit.take('a', 99), undefined);
  t.equal(limit.take('b', 99), 1);
  t.equal(limit.take('a', 100), 0);
});
