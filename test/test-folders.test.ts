import { execFile } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';

const ROOT = join(import.meta.dirname, '..');

t.test('the folder of a test outlives its teardown, and is gone after the run', async (t) => {
  const dir = t.testdir({
    'one.test.ts': `
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
t.test('writes to the end', async (t) => {
  const dir = t.testdir({ member: 'writes' });
  t.teardown(() => writeFileSync(join(import.meta.dirname, 'seen'), existsSync(join(dir, 'member')) ? dir : ''));
  t.pass('held');
});
`,
  });
  const args = [join(ROOT, 'scripts/launch.mjs'), 'test', relative(ROOT, join(dir, 'one.test.ts'))];
  const { stdout } = await promisify(execFile)(process.execPath, args);
  t.match(stdout, /^1 passed, 0 failed$/m);
  const seen = readFileSync(join(dir, 'seen'), 'utf8');
  t.not(seen, '', 'it was there in the teardown');
  t.notOk(existsSync(seen), 'it went with the process');
});
