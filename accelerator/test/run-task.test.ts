import type { ConversionTask } from '@sepia/cluster/api/conversions';
import t from 'tap';
import { runTask } from '../src/run-task.ts';

t.test('a task of a later version waits for who knows it, and takes no result away', async (t) => {
  const rule = { name: 'r', from: 'local', to: 'estargz' };
  const deps = { cluster: { document: { conversions: [rule] } } } as unknown as Parameters<typeof runTask>[0];
  const task = { kind: 'sign', rule: 'r', upstream: 'local', repository: 'team/app', tag: 'v1' };
  const run = runTask(deps, task as unknown as ConversionTask, new AbortController().signal);
  await t.rejects(run, {
    code: 'MEMBER_BUSY',
    message: /does not know the task "sign"/,
    facts: { retryable: true },
  });
});
