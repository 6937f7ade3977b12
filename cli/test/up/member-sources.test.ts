import { execFile } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { memberEnv, nodeArguments } from '../../src/up/node-flags.ts';

/** Says what it finds, by way of another source; the text is longer than its bytes are many. */
const FILES = {
  'package.json': '{"type":"module"}',
  'main.ts': `
import { type Shown, shown } from './shown.ts';
const found: Shown = { argv: process.argv.slice(1), here: import.meta.filename };
console.log(JSON.stringify(shown(found)));
`,
  'shown.ts': `
export interface Shown { readonly argv: readonly string[]; readonly here: string }
export const shown = (one: Shown): unknown => ({
  ...one,
  word: 'größer ≥' as string,
  hasStripper: process.moduleLoadList.includes('NativeModule internal/deps/amaro/dist/index'),
});
`,
};

/** What a member of a role says that finds its sources in `cache`. */
async function run(dir: string, cache: string, role: 'origin' | 'tracker' = 'origin') {
  const args = [...nodeArguments(role, join(dir, 'main.ts')), '--config', 'FILE'];
  const env = { ...memberEnv({ PATH: process.env['PATH'] }, process.pid, role), NODE_COMPILE_CACHE: cache };
  const { stdout, stderr } = await promisify(execFile)(process.execPath, args, { env });
  return { said: JSON.parse(stdout) as unknown, stderr };
}

function expected(dir: string, hasStripper: boolean) {
  const here = join(dir, 'main.ts');
  return { said: { argv: [here, '--config', 'FILE'], here, word: 'größer ≥', hasStripper }, stderr: '' };
}

t.test('types are taken out once, by whichever role comes first', async (t) => {
  const dir = t.testdir(FILES);
  const cache = join(dir, 'cache');
  t.strictSame(await run(dir, cache), expected(dir, true));
  t.strictSame(await run(dir, cache), expected(dir, false));
  t.strictSame(await run(dir, cache, 'tracker'), expected(dir, false));
  t.strictSame(readdirSync(cache), [`sources-${process.version}`], "nothing is kept by Node's own cache");
  writeFileSync(join(dir, 'shown.ts'), FILES['shown.ts'].replace('größer', 'kleiner'));
  t.match((await run(dir, cache)).said, { word: 'kleiner ≥', hasStripper: true }, 'a source that changed');
});

t.test('a kept source that is damaged, or cut, is made again', async (t) => {
  const dir = t.testdir(FILES);
  const cache = join(dir, 'cache');
  await run(dir, cache);
  const folder = join(cache, `sources-${process.version}`);
  const files = readdirSync(folder).map((name) => join(folder, name));
  t.equal(files.length, 2);
  const damages: ((text: string) => string)[] = [
    () => '',
    (text) => text.slice(0, -10),
    (text) => text.replaceAll('größer', 'kleiner').replaceAll('argv', 'argw'),
  ];
  for (const damaged of damages) {
    for (const file of files) writeFileSync(file, damaged(readFileSync(file, 'utf8')));
    t.strictSame(await run(dir, cache), expected(dir, true));
    t.strictSame(await run(dir, cache), expected(dir, false));
  }
});

t.test('who can keep nothing runs all the same', async (t) => {
  const dir = t.testdir({ ...FILES, taken: 'a file' });
  const cache = join(dir, 'taken');
  for (let round = 0; round < 2; round++) t.strictSame(await run(dir, cache), expected(dir, true));
});
