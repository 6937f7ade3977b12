import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { COMPRESSORS } from '@sepia/lazy/pack/unpack';
import { must, run } from '@sepia/test-support/testbed';
import { until } from '@sepia/test-support/until';
import t, { type Test } from 'tap';
import { ODD_IMAGES, stacked } from '../../shared/lazy/test/support/odd-images.ts';
import { converted, facts, type OnDisk } from './support/nydus-on-disk.ts';

/** Nydus's daemon mounts what we write. It is not run with the other tests: building it takes minutes. */
const JUDGE = process.env['NYDUSD'] ?? '/usr/bin/nydusd';
const HOW =
  'root, /dev/fuse and cargo install nydus-rs --version 2.2.0 --locked --bin nydusd --root ./judge; NYDUSD=./judge/bin/nydusd';

function whyNot(): string | undefined {
  return existsSync(JUDGE) && existsSync('/dev/fuse') && process.getuid?.() === 0
    ? undefined
    : `needs ${HOW}`;
}

/** Mounts an image over FUSE until the test ends. */
async function mounted(t: Test, dir: string, { bootstrap, blobDir }: OnDisk): Promise<string> {
  const tree = join(dir, 'tree');
  mkdirSync(tree);
  const log = openSync(join(dir, 'log'), 'a');
  const args = [
    '--rlimit-nofile',
    '0',
    '--bootstrap',
    bootstrap,
    '--localfs-dir',
    blobDir,
    '--mountpoint',
    tree,
  ];
  const child = spawn(JUDGE, args, { stdio: ['ignore', log, log] });
  const gone = new Promise((settle) => child.once('exit', settle));
  t.teardown(async () => {
    // It ends when its mount does, not by a signal that it may handle.
    await run('umount', ['-l', tree]);
    child.kill('SIGKILL');
    await gone;
    rmSync(dir, { recursive: true, force: true });
  });
  const isMounted = (): boolean => readFileSync('/proc/self/mountinfo', 'utf8').includes(` ${tree} `);
  await until(() => isMounted() || child.exitCode !== null, 'nydusd mounts the image', 30_000);
  if (!isMounted()) throw new Error(`nydusd mounts nothing: ${readFileSync(join(dir, 'log'), 'utf8')}`);
  return tree;
}

/**
 * What a mount can show of a node: nydusd has its own start as the time of what has none, and one mode for all symbolic links;
 * the kernel shows no capabilities that it does not understand.
 */
function shown(node: Node): Node {
  const { mtimeSec: _, ...timeless } = node;
  return {
    ...(node.mtimeSec === 0 ? timeless : node),
    ...(node.type === 'symlink' ? { mode: 0o777 } : {}),
    ...(node.attributes === undefined
      ? {}
      : { attributes: node.attributes.filter(([name]) => name !== 'security.capability') }),
  };
}

interface Node {
  readonly type?: string;
  readonly mtimeSec?: number;
  readonly attributes?: readonly (readonly [name: string, value: string])[];
}

for (const compressor of COMPRESSORS)
  for (const [name, tars, meaning] of ODD_IMAGES)
    t.test(`nydusd mounts what we write, ${compressor}: ${name}`, { skip: whyNot() ?? false }, async (t) => {
      // No folder of the test's: those go before what is mounted in them.
      const dir = mkdtempSync('/tmp/sepia-nydusd-');
      const tree = await mounted(t, dir, await converted(dir, tars, compressor));
      const tar = join(dir, 'mounted.tar');
      const all = ['--xattrs', '--xattrs-include=*', '--numeric-owner', '--format=pax'];
      await must('tar', [...all, '-C', tree, '-cf', tar, '.']);
      const found = facts(stacked([readFileSync(tar)]));
      const wanted = facts(stacked(meaning));
      const paths = Object.keys(wanted);
      for (const [path, node] of Object.entries(wanted)) {
        const here: Node = found[path] ?? {};
        // A time that is not said is not compared.
        const { mtimeSec } = node as Node;
        t.same(shown(mtimeSec === 0 ? { ...here, mtimeSec: 0 } : here), shown(node), path);
      }
      const isImplied = (path: string): boolean =>
        path === '' || paths.some((one) => one.startsWith(`${path}/`));
      t.same(
        Object.keys(found).filter((path) => wanted[path] === undefined && !isImplied(path)),
        [],
        'nothing more',
      );
    });
