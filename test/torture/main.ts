import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { type Options, parseOptions, USAGE } from './options.ts';
import { sabotage } from './sabotage/sabotage.ts';

/** Says that this process already has mounts of its own. */
const OWN_MOUNTS = 'SEPIA_TORTURE_MOUNTS';
const EXIT_USAGE = 2;

process.exitCode = await main();

async function main(): Promise<number> {
  let options: Options;
  try {
    options = parseOptions(process.argv.slice(2), Date.now() % 1_000_000);
  } catch (error) {
    process.stderr.write(`torture: ${(error as Error).message}\n${USAGE}\n`);
    return EXIT_USAGE;
  }
  // Before the modules under test are loaded.
  if (options.sabotage !== undefined) sabotage(options.sabotage);
  if (process.env[OWN_MOUNTS] === undefined && mayMount()) return await withOwnMounts(options);
  const root = options.keep === undefined ? mkdtempSync(join(tmpdir(), 'torture-')) : resolve(options.keep);
  mkdirSync(root, { recursive: true });
  if (readdirSync(root).length > 0) {
    process.stderr.write(
      `torture: --keep ${root}: has files of another run, which would be judged by this one\n`,
    );
    return EXIT_USAGE;
  }
  try {
    const { torture } = await import('./torture.ts');
    return await torture(options, root);
  } finally {
    if (options.keep === undefined) rmSync(root, { recursive: true, force: true });
  }
}

/** Small disks are mounted in a name space of this process: they go with it, however it ends. */
function mayMount(): boolean {
  return spawnSync('unshare', ['-m', 'true'], { stdio: 'ignore' }).status === 0;
}

async function withOwnMounts(options: Options): Promise<number> {
  const args = ['-m', process.execPath, import.meta.filename, ...process.argv.slice(2)];
  const child = spawn('unshare', [...args, '--seed', String(options.seed)], {
    stdio: 'inherit',
    env: { ...process.env, [OWN_MOUNTS]: '1' },
  });
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => child.kill(signal));
  const [code] = (await once(child, 'exit')) as [number | null];
  return code ?? 1;
}
