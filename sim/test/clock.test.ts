import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { VirtualClock } from '../src/wire/clock.ts';

t.test(
  'what is due runs in order of time, equal times in order of asking, also what is asked meanwhile',
  async (t) => {
    // Some times are equal, some far from all others.
    const time = fc.oneof(
      fc.nat(9),
      fc.nat(9).map((at) => at * 40),
      fc.nat(90_000).map((at) => at / 64),
    );
    const entry = fc.record({ atMs: time, childMs: fc.option(time, { nil: undefined }) });
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

t.test('equal times in order of asking, however long before they were asked for', async (t) => {
  const clock = new VirtualClock();
  const ran: string[] = [];
  const ask = (name: string): void => clock.at(700, () => ran.push(name));
  ask('first');
  for (const atMs of [1, 300, 571, 572, 600, 699.99, 700]) clock.at(atMs, () => ask(`at ${atMs}`));
  ask('second');
  while (clock.step());
  t.strictSame(ran, [
    'first',
    'second',
    'at 1',
    'at 300',
    'at 571',
    'at 572',
    'at 600',
    'at 699.99',
    'at 700',
  ]);
  t.equal(clock.nowMs, 700);
});

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
