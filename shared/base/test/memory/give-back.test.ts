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
