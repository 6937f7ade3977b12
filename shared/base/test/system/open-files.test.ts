import { execFileSync } from 'node:child_process';
import t from 'tap';
import { CodedError } from '../../src/errors.ts';
import { isOutOfFiles, type openFiles, openFilesWarnings, outOfFiles } from '../../src/system/open-files.ts';

t.test('a failure for want of a file or socket is known by its cause, and only of this process', (t) => {
  const system = Object.assign(new Error('connect EMFILE 127.0.0.1:1'), { code: 'EMFILE' });
  const machine = Object.assign(new Error('open'), { code: 'ENFILE' });
  const words = Object.assign(new Error('IO error: /d/000005.log: Too many open files'), {
    code: 'LEVEL_IO_ERROR',
  });
  const opened = Object.assign(new Error('Database failed to open', { cause: words }), {
    code: 'LEVEL_DATABASE_NOT_OPEN',
  });
  for (const one of [system, machine, words, opened, outOfFiles(system), outOfFiles(opened)])
    t.ok(isOutOfFiles(one), String(one));
  const others = new CodedError('MEMBER_BUSY', { message: 'IO error: Too many open files' });
  const around = new Error('x', { cause: others });
  for (const one of [others, around, new Error('x'), undefined, null, 'EMFILE', { code: 'EMFILE' }])
    t.notOk(isOutOfFiles(one), String(one));
  t.match(outOfFiles(system), { code: 'MEMBER_BUSY', facts: { status: 503, retryable: true } });
  t.end();
});

t.test('who has none left is told so all the same', (t) => {
  const source = new URL('../../src/system/open-files.ts', import.meta.url).href;
  const script = `
import { openSync } from 'node:fs';
import { openFiles, openFilesWarnings } from ${JSON.stringify(source)};
openFiles();
try {
  for (;;) openSync('/dev/null');
} catch (error) {
  if (error.code !== 'EMFILE') throw error;
}
process._rawDebug(JSON.stringify(openFilesWarnings(openFiles())));
process.reallyExit(0);
`;
  const shell = 'ulimit -n 96 && exec "$0" --input-type=module --eval "$1" 2>&1';
  const said = execFileSync('/bin/sh', ['-c', shell, process.execPath, script], { encoding: 'utf8' });
  t.match(said, /open files: 96 of 96 are open; raise the limit/);
  t.end();
});

t.test('who comes near the limit of open files is told how many there are', async (t) => {
  t.same(openFilesWarnings({ open: 79, limit: 100 }), []);
  t.same(openFilesWarnings(undefined), []);
  t.match(openFilesWarnings({ open: 80, limit: 100 }), [/^open files: 80 of 100 are open; raise the limit/]);
  // Of a small limit clients get less than that.
  t.same(openFilesWarnings({ open: 23, limit: 40 }, 16), []);
  t.match(openFilesWarnings({ open: 24, limit: 40 }, 16), [/^open files: 24 of 40 are open/]);
});

t.test('the limit is that of the process, and what it opens counts', async (t) => {
  const source = new URL('../../src/system/open-files.ts', import.meta.url).href;
  const script = `
import { openSync } from 'node:fs';
import { openFiles } from ${JSON.stringify(source)};
const before = openFiles();
for (let count = 0; count < 10; count++) openSync('/dev/null');
console.log(JSON.stringify([before, openFiles()]));
`;
  const shell = 'ulimit -n 96 && exec "$0" --input-type=module --eval "$1"';
  const said = execFileSync('/bin/sh', ['-c', shell, process.execPath, script], { encoding: 'utf8' });
  const [before, after] = JSON.parse(said) as ReturnType<typeof openFiles>[];
  t.equal(before?.limit, 96);
  t.equal(after!.open - before!.open, 10);
  t.ok(before!.open > 2 && after!.open < 96);
});
