import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { type CodedError, isCoded } from '@sepia/base/errors';
import t from 'tap';
import { checkFolders, makeFolders } from '../src/make-folders.ts';

t.test('folders are made down to the last, and once more', async (t) => {
  const path = join(t.testdir(), 'a', 'b', 'c');
  await makeFolders(path, 'data');
  await makeFolders(path, 'data');
  t.ok(existsSync(path));
});

t.test('what cannot be made is refused at once, by its key', async (t) => {
  const dir = t.testdir({ file: 'text' });
  for (const path of [join(dir, 'file'), join(dir, 'file', 'below'), '/proc/sepia/data']) {
    const error = await makeFolders(path, 'data').then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    t.ok(isCoded(error, 'CONFIG_INVALID'), path);
    t.match(String(error), /data: folder .* cannot be made/);
    if (!path.startsWith('/proc')) t.throws(() => checkFolders(path, 'data'), error as CodedError);
  }
});

t.test('what can be made is not refused, and not made', async (t) => {
  const dir = t.testdir();
  checkFolders(join(dir, 'a', 'b'), 'data');
  checkFolders(dir, 'data');
  t.notOk(existsSync(join(dir, 'a')));
});
