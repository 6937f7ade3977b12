import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { type Output, run } from '@sepia/test-support/testbed';
import t from 'tap';
import { memberEnv, nodeFlags } from '../../cli/src/up/node-flags.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const SEPIA = resolve(ROOT, 'sepia');
const TELL =
  "process.stderr.write([process.env.MALLOC_MMAP_THRESHOLD_, ...process.execArgv].join(' ') + '\\n')";

/** What the process under `./sepia` runs with; the launcher itself tells, too. */
async function started(command: string): Promise<Output> {
  const env = { NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(TELL)}` };
  return await run('env', ['-u', 'UV_THREADPOOL_SIZE', SEPIA, command, '--help'], env);
}

t.test('a conversion keeps its buffers where there is memory; all others give them back', async (t) => {
  const convert = await started('convert');
  t.equal(convert.code, 0, convert.stderr);
  t.match(convert.stderr, /^4194304 --max-semi-space-size=4$/m);
  t.same(nodeFlags('origin'), ['--max-semi-space-size=4', '--heap-growing-percent=30']);
  t.same(nodeFlags('tracker'), ['--max-semi-space-size=32'], 'small things, no buffers');
});

t.test('a role that runs alone runs as `sepia up` runs it: by ./sepia, by the image', async (t) => {
  const { MALLOC_MMAP_THRESHOLD_: threshold, UV_THREADPOOL_SIZE: threads } = memberEnv({}, 1);
  const roles = ['origin', 'tracker', 'proxy', 'agent'] as const;
  for (const role of roles) {
    const { code, stderr } = await started(role);
    t.equal(code, 0, stderr);
    t.ok(stderr.split('\n').includes([threshold, ...nodeFlags(role)].join(' ')), `${role}: ${stderr}`);
  }
  const image = readFileSync(resolve(ROOT, 'docker/Dockerfile'), 'utf8');
  const entry: unknown = JSON.parse(/^ENTRYPOINT (.+)$/m.exec(image)?.[1] ?? '[]');
  t.same(entry, ['node', ...nodeFlags('origin')]);
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
