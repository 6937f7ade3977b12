import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { VirtualClock } from '../src/wire/clock.ts';

t.test(
  'what is due runs in order of time, equal times in order of asking, also what is asked meanwhile',
  async (t) => {
    const entry = fc.record({ atMs: fc.nat(9), childMs: fc.option(fc.nat(9), { nil: undefined }) });
    let most = 0;
    fc.assert(
      fc.property(fc.array(entry, { minLength: 20, maxLength: 60 }), (entries) => {
        const clock = new VirtualClock();
        const ran: { atMs: number; order: number }[] = [];
        let order = 0;
        const ask = (atMs: number, childMs: number | undefined): void => {
          const mine = { atMs: Math.max(atMs, clock.nowMs), order: order++ };
          clock.at(atMs, () => {
            if (clock.nowMs !== mine.atMs) throw new Error(`${clock.nowMs}, not ${mine.atMs}`);
            ran.push(mine);
            if (childMs !== undefined) ask(childMs, undefined);
          });
        };
        for (const { atMs, childMs } of entries) ask(atMs, childMs);
        while (clock.step());
        most = Math.max(most, ran.length);
        return (
          ran.length === order &&
          ran.every((one, at) => {
            const before = ran[at - 1];
            return (
              before === undefined ||
              before.atMs < one.atMs ||
              (before.atMs === one.atMs && before.order < one.order)
            );
          })
        );
      }),
    );
    t.ok(most >= 20, `${most} entries`);
  },
);

t.test('thousands of entries, as many as the clock had room for and more', async (t) => {
  const clock = new VirtualClock();
  const ran: number[] = [];
  for (let at = 0; at < 5_000; at++) clock.at((at * 7_919) % 5_000, () => ran.push(clock.nowMs));
  while (clock.step());
  t.strictSame(
    ran,
    Array.from({ length: 5_000 }, (_, at) => at),
  );
  t.notOk(clock.step());
});
