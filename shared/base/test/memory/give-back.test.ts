import { giveMemoryBack } from '@sepia/base/memory/give-back';
import { until } from '@sepia/test-support/until';
import t from 'tap';

const MIB = 1024 * 1024;

t.test('buffers that nobody holds are freed in a process that does nothing', async (t) => {
  const end = giveMemoryBack(200);
  t.teardown(end);
  const before = process.memoryUsage().external;
  // Looked at before the burst.
  await new Promise((resolve) => setTimeout(resolve, 500));
  let held: Buffer[] | undefined = Array.from({ length: 16 }, () => Buffer.alloc(MIB));
  t.ok(process.memoryUsage().external >= before + held.length * MIB);
  held = undefined;
  await until(() => process.memoryUsage().external < before + 4 * MIB, 'they are freed', 60_000);
});
