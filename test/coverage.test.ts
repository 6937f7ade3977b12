import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';

const COVERAGE = join(import.meta.dirname, '../scripts/coverage.mjs');

t.test('a workspace without a core has nothing to reach', async (t) => {
  const code = `
import { runCoverage } from ${JSON.stringify(COVERAGE)};
process.exitCode = await runCoverage(['shared/lazy'], () => { throw new Error('nothing is to be run'); });
`;
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '--eval', code]);
  t.equal(stdout, 'no core is in shared/lazy: nothing to reach\n');
});
