import { spawn } from 'node:child_process';
import { cpSync, existsSync, readFileSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { type Output, run } from '@sepia/test-support/testbed';
import { until } from '@sepia/test-support/until';
import { Up } from '@sepia/test-support/up';
import t from 'tap';

const SEPIA = resolve(import.meta.dirname, '../../sepia');
const SMALL = ['--origins', '1', '--trackers', '1', '--proxies', '1', '--agents', '1'];
const GONE_MS = 120_000;

t.test('SIGTERM drains all; a second run with the same data serves what was pushed', async (t) => {
  const dir = t.testdir();
  const first = await Up.start(dir, [...SMALL, '--ports-from', '25000']);
  const { pids } = factsOf(first);
  const image = await until(async () => {
    const pulled = await sepia('pull', 'no/such:tag', '--agent', first.cluster.agents[0]!.url);
    return /MANIFEST_UNKNOWN|TAG_UNKNOWN/.test(pulled.stderr) && pulled;
  }, 'an unknown image is refused');
  t.equal(image.code, 2);
  t.equal(await first.stop(), 0);
  t.notOk(existsSync(join(dir, 'cluster.json')));
  t.same(pids.filter(isAlive), []);
  const second = await Up.start(dir, [...SMALL, '--ports-from', '25000']);
  const status = await until(async () => {
    const told = await sepia('status', '--cluster', join(dir, 'cluster.json'));
    return /^All 4 members are ready/m.test(told.stdout) && told;
  }, 'all members are ready');
  t.equal(status.code, 0);
  t.equal(await second.stop(), 0);
});

t.test('kill -9 of the supervisor leaves no process', async (t) => {
  const dir = t.testdir();
  const up = await Up.start(dir, [...SMALL, '--ports-from', '25500']);
  const { pids } = factsOf(up);
  process.kill(supervisorOf(pids[0]!), 'SIGKILL');
  await until(() => pids.every((pid) => !isAlive(pid)), 'all members are gone', GONE_MS);
  rmSync(join(dir, 'cluster.json'), { force: true });
  const again = await Up.start(dir, [...SMALL, '--ports-from', '25500']);
  t.ok(again.cluster.agents[0]!.pid > 0, 'and the same data can be used at once');
  t.equal(await again.stop(), 0);
});

t.test('a taken port and a copied data folder are one line each', async (t) => {
  const dir = t.testdir({ a: {}, b: {} });
  const up = await Up.start(join(dir, 'a'), [...SMALL, '--ports-from', '26000']);
  t.teardown(async () => await up.stop());
  const taken = await sepia('up', '--data', join(dir, 'b'), ...SMALL, '--ports-from', '26000');
  t.equal(taken.code, 2);
  t.match(taken.stderr, /^sepia up: START_FAILED: port 26\d{3} \(.*\) is taken by another process.*\n$/);
  t.equal(taken.stdout, '', 'nothing is said to start before that');
  const file = join(dir, 'a/cluster-key');
  const noFolder = await sepia('up', '--data', file, ...SMALL);
  t.equal(noFolder.code, 2);
  t.equal(
    noFolder.stderr,
    `sepia up: CONFIG_INVALID: --data: folder ${file} cannot be made (a part of it is not a folder); choose another\n`,
  );
  await up.stop();
  cpSync(join(dir, 'a/members/origin-1'), join(dir, 'b/members/origin-2'), { recursive: true });
  const copied = await sepia(
    'up',
    '--data',
    join(dir, 'b'),
    ...SMALL,
    '--origins',
    '2',
    '--ports-from',
    '26500',
  );
  t.equal(copied.code, 2);
  t.match(
    copied.stderr,
    /^sepia up: START_FAILED: origin-2: .*origin-1.*\n$/,
    'names the member and the other id',
  );
});

t.test('with --json only the description of the cluster is on standard output', async (t) => {
  const child = spawn(SEPIA, ['up', '--data', t.testdir(), ...SMALL, '--ports-from', '27500', '--json'], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  let text = '';
  child.stdout.on('data', (chunk: Buffer) => {
    text += chunk.toString('utf8');
  });
  await until(() => text.endsWith('\n'), 'it is ready', GONE_MS);
  const cluster = JSON.parse(text) as { version: number; upstreams: unknown; agents: unknown[] };
  t.match(cluster, { version: 1, upstreams: [{ name: 'local', mode: 'none' }] });
  t.equal(cluster.agents.length, 1);
  const ended = new Promise((settle) => child.once('exit', settle));
  child.kill('SIGINT');
  t.equal(await ended, 0);
  t.equal(text.trim().split('\n').length, 1);
});

async function sepia(...args: string[]): Promise<Output> {
  return await run(SEPIA, args);
}

function factsOf(up: Up): { pids: number[] } {
  const { origins, trackers, proxies, agents } = up.cluster;
  return { pids: [...origins, ...trackers, ...proxies, ...agents].map((member) => member.pid) };
}

/** The parent of a member: the process that runs `sepia up`. */
function supervisorOf(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
}

function isAlive(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2)[0] !== 'Z';
  } catch {
    return false;
  }
}
