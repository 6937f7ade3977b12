import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { KeyedLocks } from '../../src/async/keyed-locks.ts';

t.test('tasks of one key run one at a time in the order asked, of several keys as well', async (t) => {
  const task = fc.uniqueArray(fc.constantFrom('a', 'b', 'c', 'd'), { minLength: 1 });
  await fc.assert(
    fc.asyncProperty(fc.array(task, { maxLength: 20 }), fc.scheduler(), async (tasks, scheduler) => {
      const locks = new KeyedLocks<string>();
      const busy = new Set<string>();
      const order = new Map<string, number[]>();
      const work = async (keys: readonly string[], index: number): Promise<number> => {
        for (const key of keys) {
          if (busy.has(key)) throw new Error(`${key} has two tasks at once`);
          busy.add(key);
          order.set(key, [...(order.get(key) ?? []), index]);
        }
        await scheduler.schedule(Promise.resolve());
        for (const key of keys) busy.delete(key);
        return index;
      };
      const all = tasks.map(async (keys, index) =>
        keys.length === 1
          ? await locks.run(keys[0]!, async () => await work(keys, index))
          : await locks.runAll(keys, async () => await work(keys, index)),
      );
      await scheduler.waitAll();
      const ended = await scheduler.waitFor(Promise.all(all));
      if (ended.some((found, index) => found !== index)) throw new Error('a task returned for another');
      for (const [key, found] of order)
        if (found.some((one, at) => at > 0 && one < found[at - 1]!)) throw new Error(`${key}: ${found}`);
      await locks.allIdle();
    }),
  );
  t.pass();
});

t.test('a task that throws lets the next one of each of its keys run', async (t) => {
  const locks = new KeyedLocks<string>();
  const failed = locks.runAll(['a', 'b', 'a'], async () => {
    throw new Error('no');
  });
  const after = locks.run('b', async () => 'next');
  await t.rejects(failed, { message: 'no' });
  t.equal(await after, 'next');
});
