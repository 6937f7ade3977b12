import { execFile } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
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

t.test('what is kept before is found by every process, its workers too', async (t) => {
  const dir = t.testdir({
    ...FILES,
    'work.ts': `
import { Worker } from 'node:worker_threads';
const main: URL = new URL('./main.ts', import.meta.url);
new Worker(main);
`,
  });
  const cache = join(dir, 'cache');
  const scripts = resolve(import.meta.dirname, '../../../scripts');
  const env = { PATH: process.env['PATH'], NODE_COMPILE_CACHE: cache, NODE_DISABLE_COMPILE_CACHE: '1' };
  const said = async (...args: string[]): Promise<{ stdout: string; stderr: string }> =>
    await promisify(execFile)(process.execPath, args, { env, cwd: dir });
  const keep = `import { keepWithoutTypes } from ${JSON.stringify(join(scripts, 'sources.mjs'))};
for (const name of ['main.ts', 'shown.ts', 'work.ts']) keepWithoutTypes(name);`;
  await said('--input-type=module', '-e', keep);
  const kept = readdirSync(join(cache, `sources-${process.version}`));
  t.equal(kept.length, 3);
  for (const name of ['main.ts', 'work.ts']) {
    const { stdout, stderr } = await said('--import', join(scripts, 'without-types.mjs'), name);
    t.equal(stderr, '');
    t.match(JSON.parse(stdout), { here: join(dir, 'main.ts'), word: 'größer ≥', hasStripper: false }, name);
  }
  t.same(readdirSync(join(cache, `sources-${process.version}`)), kept);
  writeFileSync(join(dir, 'file'), '');
  const nowhere = promisify(execFile)(process.execPath, ['--input-type=module', '-e', keep], {
    env: { ...env, NODE_COMPILE_CACHE: join(dir, 'file') },
    cwd: dir,
  });
  await t.rejects(nowhere, { message: /main.ts is not kept without its types/ });
});
