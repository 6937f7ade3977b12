import t from 'tap';
import { ReadTurns } from '../../src/bodies/read-turns.ts';

t.test('as many as may run at once, in the order asked', async (t) => {
  const turns = new ReadTurns({ most: 2, turnMs: 60_000 });
  const begun: number[] = [];
  const ends: (() => void)[] = [];
  const all = [0, 1, 2, 3].map((n) =>
    turns.run(async () => {
      begun.push(n);
      await new Promise<void>((resolve) => ends.push(resolve));
      return n;
    }),
  );
  t.same(begun, [0, 1], 'two begin, two wait');
  for (const n of [0, 1, 2, 3]) {
    ends[n]?.();
    t.equal(await all[n], n);
    await Promise.resolve();
  }
  t.same(begun, [0, 1, 2, 3]);
});

t.test('one that fails hands its turn on; one that takes long does before its end', async (t) => {
  const turns = new ReadTurns({ most: 1, turnMs: 20 });
  await t.rejects(turns.run(() => Promise.reject(new Error('no'))));
  let finish = (): void => undefined;
  const slow = turns.run(() => new Promise<void>((resolve) => (finish = resolve)));
  t.equal(await turns.run(() => Promise.resolve('next')), 'next', 'while the slow one runs');
  finish();
  await slow;
  t.equal(await turns.run(() => Promise.resolve('last')), 'last');
});
