import { WakeTurns } from '@sepia/base/async/wake-turns';
import t from 'tap';

t.test('who waits is woken in turn, while there is something left', async (t) => {
  const queue = new WakeTurns();
  const woken: string[] = [];
  let left = 0;
  for (const name of ['a', 'b', 'c']) {
    const wake = (): void => {
      woken.push(name);
      left -= 1;
      queue.add(wake);
    };
    queue.add(wake);
    queue.add(wake);
  }
  t.equal(queue.size, 3, 'each waits once');
  for (let round = 0; round < 4; round++) {
    left = 1;
    queue.wakeWhile(() => left > 0);
  }
  t.same(woken, ['a', 'b', 'c', 'a'], 'who waits again stands behind the others');
});

t.test('a round wakes nobody twice, nor who has left', async (t) => {
  const queue = new WakeTurns();
  let woken = 0;
  const again = (): void => {
    woken += 1;
    queue.add(again);
  };
  const leaves = (): void => void t.fail('it left');
  queue.add(() => queue.forget(leaves));
  queue.add(leaves);
  queue.add(again);
  queue.wakeWhile(() => true);
  t.equal(woken, 1);
  t.equal(queue.size, 1);
  queue.clear();
  queue.wakeWhile(() => true);
  t.equal(woken, 1);
});
