import { VirtualTime } from '@sepia/test-support/virtual-time';
import t from 'tap';
import { GATHER_AWAITED_MS, GATHER_RENEWED_MS } from '../../src/deadlines.ts';
import { Rounds } from '../../src/metainfo/rounds.ts';

t.test('work of a round begins in one turn; failed work ends like any other', async (t) => {
  const time = new VirtualTime().install();
  t.teardown(() => time.uninstall());
  const rounds = new Rounds();
  const begun: string[] = [];
  let turn = 0;
  const work =
    (name: string, ms: number, fails = false) =>
    async (): Promise<string> => {
      if (turn === 0)
        queueMicrotask(() => {
          turn = 0;
          begun.push('|');
        });
      turn += 1;
      begun.push(`${name} ${time.elapsedMs}`);
      await new Promise<void>((resolve) => setTimeout(resolve, ms));
      if (fails) throw new Error(name);
      return name;
    };
  const all = Promise.allSettled([
    rounds.run(true, work('a', 4, true)),
    rounds.run(true, work('b', 60)),
    rounds.run(false, work('c', 1)),
  ]);
  await time.pass(20);
  t.same(begun, ['a 0', '|', 'b 4', 'c 4', '|']);
  const more = Promise.all([rounds.run(true, work('d', 1)), rounds.run(false, work('e', 1))]);
  await time.settle(more);
  t.same(begun.slice(5), [`d ${20 + GATHER_AWAITED_MS}`, `e ${20 + GATHER_AWAITED_MS}`, '|']);
  t.same(
    (await time.settle(all)).map(({ status }) => status),
    ['rejected', 'fulfilled', 'fulfilled'],
  );
  const fromMs = time.elapsedMs;
  t.equal(await time.settle(rounds.run(false, work('f', 1))), 'f');
  t.equal(begun.at(-2), `f ${fromMs + GATHER_RENEWED_MS}`);
});
