import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import t from 'tap';

const source = (name: string): string =>
  JSON.stringify(new URL(`../../src/${name}.ts`, import.meta.url).href);
/** Tells what it finds once it runs; then it stops by itself. */
const SERVICE = `
import { hasStripper } from ${source('memory/type-stripper')};
import { runService } from ${source('process')};
await runService('test' as string, async () => ({ stop: async () => undefined }));
console.log(JSON.stringify({ hasStripper: hasStripper() }));
process.kill(process.pid, 'SIGTERM');
setInterval(() => undefined, 1_000);
`;
const FOLDER = { 'main.ts': SERVICE, 'package.json': '{"type":"module"}' };

/** What a service says that runs with this compile cache; nothing where it only compiles. */
async function start(dir: string, cache: string | undefined, ...args: string[]): Promise<string> {
  const env = { PATH: process.env['PATH'], ...(cache === undefined ? {} : { NODE_COMPILE_CACHE: cache }) };
  const stdio = ['ignore', 'pipe', 'pipe'] as const;
  const child = spawn(process.execPath, [join(dir, 'main.ts'), ...args], { stdio: [...stdio], env });
  let out = '';
  child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (out += chunk.toString()));
  const ended = await once(child, 'close');
  if (ended[0] !== 0) throw new Error(`exit ${ended.join(' ')}: ${out}`);
  return out.trim();
}

t.test('what was loaded with --compile is compiled, and nothing was started', async (t) => {
  const dir = t.testdir(FOLDER);
  const cache = join(dir, 'cache');
  t.equal(await start(dir, cache, '--compile'), '');
  t.equal(await start(dir, cache), '{"hasStripper":false}');
});

t.test('a service that is not compiled, or has no cache, has what strips types', async (t) => {
  const dir = t.testdir({ ...FOLDER, taken: 'a file' });
  for (const cache of [undefined, join(dir, 'taken'), join(dir, 'cache')])
    t.equal(await start(dir, cache), '{"hasStripper":true}', cache ?? 'none');
});
