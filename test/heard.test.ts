import { runHeard } from '@sepia/test-support/clients/heard';
import type { Output } from '@sepia/test-support/testbed';
import t from 'tap';
import { FILES } from './sources.ts';

/** Its container ends when the test says so, long after ctr listens. */
const TOLD = 'test/processes/clients/lazy-broken.test.ts';

/** Answers with these outputs in turn; `names`: what ran. */
function runnerOf(...outputs: readonly Partial<Output>[]) {
  const names: string[] = [];
  const run = async (_image: string, name: string): Promise<Output> => ({
    ...{ code: 0, stdout: '', stderr: '' },
    ...outputs[names.push(name) - 1],
  });
  return { run, names };
}

t.test('a container whose output ctr lost runs again; what it said, or how it failed, stands', async (t) => {
  const lost = runnerOf({}, { stdout: 'hello\nthat was all\n' });
  t.equal((await runHeard(lost, 'image', 'one', 'echo hello')).stdout, 'hello\n');
  t.same(lost.names, ['one-1', 'one-2']);
  const empty = runnerOf({ stdout: 'that was all\n' });
  t.equal((await runHeard(empty, 'image', 'one', 'cat /empty')).stdout, '', 'an empty file is empty');
  const failed = runnerOf({ code: 1, stderr: 'no' });
  t.match(await runHeard(failed, 'image', 'one', 'cat /none'), { code: 1, stdout: '', stderr: 'no' });
  t.same([empty.names, failed.names], [['one-1'], ['one-1']]);
});

t.test('no client test takes silence of ctr for an answer', async (t) => {
  const RAW = /containerd\.run\((?!\.\.\.what)|'containerd\.sh',\s*\[\s*'run'/;
  const tests = FILES.filter(({ path }) => path.startsWith('test/processes/'));
  t.ok(tests.length > 50, `${tests.length} tests were found`);
  t.same(
    tests.filter(({ code }) => RAW.test(code)).map(({ path }) => path),
    [TOLD],
    'run containers by `runHeard` or `heardOn` of @sepia/test-support/clients/heard',
  );
});
