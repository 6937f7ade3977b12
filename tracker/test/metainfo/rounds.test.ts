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
    rounds.run('a', true, work('a', 4, true)),
    rounds.run('b', true, work('b', 60)),
    rounds.run('c', false, work('c', 1)),
  ]);
  await time.pass(20);
  t.same(begun, ['a 0', '|', 'b 4', 'c 4', '|']);
  const more = Promise.all([rounds.run('d', true, work('d', 1)), rounds.run('e', false, work('e', 1))]);
  await time.settle(more);
  t.same(begun.slice(5), [`d ${20 + GATHER_AWAITED_MS}`, `e ${20 + GATHER_AWAITED_MS}`, '|']);
  t.same(
    (await time.settle(all)).map(({ status }) => status),
    ['rejected', 'fulfilled', 'fulfilled'],
  );
  const fromMs = time.elapsedMs;
  t.equal(await time.settle(rounds.run('f', false, work('f', 1))), 'f');
  t.equal(begun.at(-2), `f ${fromMs + GATHER_RENEWED_MS}`);
});

t.test('a look-up that somebody waits for after all begins so, if it has not begun', async (t) => {
  const time = new VirtualTime().install();
  t.teardown(() => time.uninstall());
  const rounds = new Rounds();
  const begun: string[] = [];
  const run = async (key: string, isAwaited: boolean): Promise<void> =>
    await rounds.run(key, isAwaited, async (isWaitedFor) => {
      begun.push(`${key} ${isWaitedFor} ${time.elapsedMs}`);
      await new Promise<void>((resolve) => setTimeout(resolve, 60));
    });
  const all = [run('a', false), run('b', false)];
  await time.pass(3);
  rounds.awaited('c');
  await time.pass(2);
  t.same(begun, [], 'nobody waits for these');
  rounds.awaited('b');
  await time.pass(0);
  t.same(begun, ['a false 5', 'b true 5']);
  all.push(run('d', false), run('d', false));
  rounds.awaited('a');
  await time.pass(GATHER_AWAITED_MS);
  t.equal(begun.length, 2, 'a has begun before');
  rounds.awaited('d');
  rounds.awaited('d');
  await time.settle(Promise.all(all));
  const atMs = 5 + 2 * GATHER_AWAITED_MS;
  t.same(begun.slice(2), [`d false ${atMs}`, `d true ${atMs}`], 'the last of a key is what is joined');
});
