import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { type Output, run } from '@sepia/test-support/testbed';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { memberEnv, nodeArguments, nodeFlags } from '../../cli/src/up/node-flags.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const SEPIA = resolve(ROOT, 'sepia');
const TELL =
  "process.stderr.write([process.env.MALLOC_MMAP_THRESHOLD_, ...process.execArgv, process.argv[1]].join(' ') + '\\n')";
const MAIN = resolve(ROOT, 'cli/src/main.ts');

/** What the process under `./sepia` runs with; the launcher itself tells, too. */
async function started(command: string): Promise<Output> {
  const env = { NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(TELL)}` };
  return await run('env', ['-u', 'UV_THREADPOOL_SIZE', SEPIA, command, '--help'], env);
}

t.test('a conversion keeps its buffers where there is memory; all others give them back', async (t) => {
  const convert = await started('convert');
  t.equal(convert.code, 0, convert.stderr);
  t.ok(convert.stderr.split('\n').includes(`4194304 --max-semi-space-size=4 ${MAIN}`), convert.stderr);
  t.same(nodeFlags('origin'), ['--max-semi-space-size=4', '--heap-growing-percent=30']);
  t.same(nodeFlags('tracker', 2 ** 29), ['--max-semi-space-size=32'], 'small things, no buffers');
  t.same(nodeFlags('tracker', 2 ** 29 - 1), nodeFlags('origin'), 'with little memory as others');
});

t.test('a role that runs alone runs as `sepia up` runs it: by ./sepia, by the image', async (t) => {
  const { MALLOC_MMAP_THRESHOLD_: threshold, UV_THREADPOOL_SIZE: threads } = memberEnv({}, 1);
  const roles = ['origin', 'tracker', 'proxy', 'agent'] as const;
  for (const role of [...roles, 'accelerator'] as const) {
    const { code, stderr } = await started(role);
    t.equal(code, 0, stderr);
    const upToEntry = nodeArguments(role, MAIN).slice(0, nodeFlags(role).length + 1);
    t.ok(stderr.split('\n').includes([threshold, ...upToEntry].join(' ')), `${role}: ${stderr}`);
  }
  const image = readFileSync(resolve(ROOT, 'docker/Dockerfile'), 'utf8');
  const entry: unknown = JSON.parse(/^ENTRYPOINT (.+)$/m.exec(image)?.[1] ?? '[]');
  t.same(entry, ['node', ...nodeFlags('origin'), '--import', '/opt/sepia/scripts/without-types.mjs']);
  t.match(image, /^WORKDIR \/opt\/sepia$/m);
  t.match(image, new RegExp(`\\bUV_THREADPOOL_SIZE=${threads}\\b`));
  t.match(image, new RegExp(`\\bMALLOC_MMAP_THRESHOLD_=${threshold}\\b`));
  const compose = readFileSync(resolve(ROOT, 'docker/compose.yaml'), 'utf8');
  let compared = 0;
  for (const [, listed = ''] of compose.matchAll(/^ +command: \[(.+)\]$/gm)) {
    const command = listed.split(', ');
    const role = roles.find((one) => command.includes(`${one}/src/main.ts`));
    if (role === undefined) continue;
    compared += 1;
    // After those of the image; no growth at all is what Node does by itself.
    const own = role === 'tracker' ? [...nodeFlags(role), '--heap-growing-percent=0'] : [];
    t.same(command, [...own, `${role}/src/main.ts`, '--config', '/etc/sepia/config.yaml']);
  }
  t.ok(compared >= 7, `${compared} members`);
});

t.test('counts of the house are taken by the Node that is fit, whichever is asked to', async (t) => {
  const old = "Object.defineProperty(process.versions, 'node', { value: '20.0.0' })";
  const counts = resolve(ROOT, 'scripts/house-counts.mjs');
  const asOld = [`--import=data:text/javascript,${encodeURIComponent(old)}`, counts];
  const env = { NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(TELL)}` };
  const counted = await run(process.execPath, asOld, env);
  t.equal(counted.code, 0, counted.stderr);
  t.equal(counted.stderr.match(/\n/g)?.length, 2, 'it ran again, as another process');
  t.same(JSON.parse(counted.stdout).circlesOfRooms, []);
});

/** `scripts/testbed-folder.mjs`, which has no types. */
interface TestbedFolders {
  openTestbed(parent: string): string;
  removeDeadTestbeds(parent: string): { removed: string[]; held: { dir: string; pids: number[] }[] };
  closeTestbed(dir: string): object | undefined;
}

t.test('what a cut-off run of real clients left goes, unless somebody living needs it', async (t) => {
  const parent = t.testdir();
  const url = resolve(ROOT, 'scripts/testbed-folder.mjs');
  const { openTestbed, removeDeadTestbeds, closeTestbed } = (await import(url)) as TestbedFolders;
  const own = openTestbed(parent);
  const of = (name: string, owner?: string): string => {
    const dir = join(parent, `sepia-tb-${name}`);
    mkdirSync(join(dir, 'cd-n1/root'), { recursive: true });
    if (owner !== undefined) writeFileSync(join(dir, 'run'), `${owner}\n`);
    return dir;
  };
  const [pid] = readFileSync(join(own, 'run'), 'utf8').split(' ');
  const dead = of('dead', `${pid} 1`);
  const foreign = of('foreign');
  const needed = ['cwd', 'file', 'name'].map((name) => of(name, `${pid} 2`));
  writeFileSync(join(needed[1]!, 'log'), '');
  const holders = [
    spawn('sleep', ['300'], { cwd: join(needed[0]!, 'cd-n1') }),
    spawn('sh', ['-c', `exec sleep 300 < ${needed[1]}/log`]),
    spawn('sh', ['-c', 'read line', `${needed[2]}/cd-n1/c.sock`]),
  ];
  t.teardown(() => holders.forEach((one) => void one.kill('SIGKILL')));
  await Promise.all(holders.map(async (one) => await once(one, 'spawn')));
  const command = (at: number): string => readFileSync(`/proc/${holders[at]!.pid}/cmdline`, 'utf8');
  await until(
    () => command(1).startsWith('sleep') && command(2).includes('c.sock'),
    'they are what they are to be',
  );

  const found = removeDeadTestbeds(parent);
  t.same(found.removed, [dead], 'its run is over: its number is another process by now');
  t.notOk(existsSync(dead));
  for (const [at, dir] of needed.entries())
    t.match(found.held.find((one) => one.dir === dir)?.pids, [holders[at]!.pid!]);
  for (const dir of [own, foreign, ...needed]) t.ok(existsSync(join(dir)), dir);

  for (const one of holders) one.kill('SIGKILL');
  await Promise.all(holders.map(async (one) => await once(one, 'exit')));
  t.equal(removeDeadTestbeds(parent).removed.length, needed.length, 'nobody needs them any more');
  t.equal(closeTestbed(own), undefined);
  t.notOk(existsSync(own));
});
