import { forgetsAtRest } from '@sepia/base/memory/at-rest';
import { giveMemoryBack } from '@sepia/base/memory/give-back';
import { until } from '@sepia/test-support/until';
import t from 'tap';

const MIB = 1024 * 1024;

t.test('buffers that nobody holds are freed in a process that does nothing', async (t) => {
  const end = giveMemoryBack(200);
  t.teardown(end);
  // Looked at before the burst.
  await new Promise((resolve) => setTimeout(resolve, 500));
  const left = Array.from({ length: 32 }, () => new WeakRef(Buffer.alloc(MIB)));
  t.equal(left.length, 32);
  await until(() => left.every((one) => one.deref() === undefined), 'they are freed', 120_000);
});

t.test('the time that a collection takes is no burst', async (t) => {
  const usual = process.cpuUsage;
  let [looks, user, forgotten] = [0, 0, 0];
  process.cpuUsage = () => {
    looks += 1;
    return { user, system: 0 };
  };
  t.teardown(() => {
    process.cpuUsage = usual;
  });
  const slow = forgetsAtRest({
    forgetAll: () => {
      forgotten += 1;
      user += 10_000_000;
    },
  });
  const end = giveMemoryBack(5);
  t.teardown(end);
  await until(() => looks > 50, 'many looks', 120_000);
  t.equal(forgotten, 1, 'of the start');
  slow.forgetAll();
  await until(() => forgotten === 3, 'after a burst', 120_000);
});
