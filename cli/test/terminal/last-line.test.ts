import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { CodedError } from '@sepia/base/errors';
import t from 'tap';
import { lastLine } from '../../src/terminal/last-line.ts';

function thrown(run: () => unknown): unknown {
  try {
    run();
  } catch (error) {
    return error;
  }
  return undefined;
}

t.test('what ends a command is one line where somebody thought of it, else all that there is', async (t) => {
  t.same(lastLine(new CodedError('CONFIG_INVALID', { message: '--x: "y" is no z' })), {
    text: 'CONFIG_INVALID: --x: "y" is no z',
    exitCode: 2,
  });
  const missing = join(t.testdir(), 'none', 'file');
  const ofFile = lastLine(thrown(() => readFileSync(missing)));
  t.match(ofFile.text, /^ENOENT: .*none.file'$/, 'what the system says of a file names it');
  t.equal(ofFile.exitCode, 2);
  const bug = lastLine(new TypeError('no'));
  t.match(bug.text, /TypeError: no\n +at /);
  t.equal(bug.exitCode, 1);
  t.same(lastLine('text'), { text: 'text', exitCode: 1 });
});
