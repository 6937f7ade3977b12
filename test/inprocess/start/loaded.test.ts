import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';

const ROLES = ['agent', 'origin', 'proxy', 'tracker'];

t.test('no member loads what none of them needs', async (t) => {
  const program = `
    for (const role of ${JSON.stringify(ROLES)}) await import('@sepia/' + role);
    process.stdout.write(JSON.stringify(process.moduleLoadList));
  `;
  const args = ['--input-type=module', '--eval', program];
  const { stdout } = await promisify(execFile)(process.execPath, args, {
    cwd: join(import.meta.dirname, '../..'),
    maxBuffer: 1024 * 1024,
  });
  const loaded = JSON.parse(stdout) as string[];
  t.ok(loaded.includes('NativeModule internal/crypto/hash'), 'it says what is loaded');
  // `import` of `node:http` does, and `Response` or `fetch` where somebody names them.
  t.strictSame(
    loaded.filter((one) => one.includes('internal/deps/undici')),
    [],
    'the HTTP client of Node',
  );
});
