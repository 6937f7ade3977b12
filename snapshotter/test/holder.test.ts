import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, openSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { until } from '@sepia/test-support/until';
import t, { type Test } from 'tap';
import { whyNoFuse } from './support/why-no-fuse.ts';

const HOLDER = resolve(import.meta.dirname, '../src/holder.sh');
/** Says that it was told to end, and does when the file GO is there. */
const DAEMON =
  'trap "touch $0.told; while [ ! -e $0.go ]; do sleep 0.02; done; exit 0" TERM; touch $0.up; while :; do sleep 0.02; done';

/** A holder as one that takes the place of another: the mount is there, its descriptor is 3. All of it is gone after the test. */
function hold(t: Test, device: number) {
  const pids = (): number[] =>
    ['.second', '', '.daemon'].flatMap((which) => {
      const file = `${pidFile}${which}`;
      return existsSync(file) ? [Number(readFileSync(file, 'utf8'))] : [];
    });
  // Before the folder is made, so that it is still there; the second shell first, or it takes over.
  t.teardown(() => {
    for (const pid of pids()) if (isOurs(pid)) process.kill(pid, 'SIGKILL');
  });
  const dir = t.testdir({ mount: {} });
  const pidFile = join(dir, 'holder.pid');
  const daemon = join(dir, 'daemon');
  const isOurs = (pid: number): boolean =>
    existsSync(`/proc/${pid}/fd`) && readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(dir);
  const child = spawn('/bin/sh', [HOLDER, join(dir, 'mount'), pidFile, '/bin/sh', '-c', DAEMON, daemon], {
    env: { ...process.env, SEPIA_ORPHAN: '0' },
    stdio: ['ignore', 'ignore', 'ignore', device],
  });
  const daemonPid = (): number => Number(readFileSync(`${pidFile}.daemon`, 'utf8'));
  return { dir, pidFile, daemon, child, exit: once(child, 'exit'), daemonPid, isOurs };
}

t.test('a holder that is told twice to end leaves no pid file and no daemon', async (t) => {
  const { pidFile, daemon, child, exit, daemonPid, isOurs } = hold(t, openSync('/dev/null', 'r'));
  await until(() => existsSync(`${daemon}.up`), 'the daemon runs');
  const pid = daemonPid();
  child.kill('SIGTERM');
  await until(() => existsSync(`${daemon}.told`), 'the daemon was told');
  child.kill('SIGTERM');
  writeFileSync(`${daemon}.go`, '');
  t.same(await exit, [0, null]);
  for (const file of [pidFile, `${pidFile}.second`, `${pidFile}.daemon`]) t.notOk(existsSync(file), file);
  t.notOk(isOurs(pid));
});

t.test('a daemon that is stopped hears that its holder is told to end', async (t) => {
  // No second shell takes a daemon on /dev/null for one to look after.
  const { daemon, child, exit, daemonPid } = hold(t, openSync('/dev/null', 'r'));
  await until(() => existsSync(`${daemon}.up`), 'the daemon runs');
  process.kill(daemonPid(), 'SIGSTOP');
  writeFileSync(`${daemon}.go`, '');
  child.kill('SIGTERM');
  await until(() => child.exitCode !== null, 'the holder ends');
  t.same(await exit, [0, null]);
  t.ok(existsSync(`${daemon}.told`), 'the daemon ended as it does');
});

t.test(
  'a daemon that is stopped is ended, and followed by the next',
  { skip: whyNoFuse() ?? false },
  async (t) => {
    const { daemon, child, exit, daemonPid } = hold(t, openSync('/dev/fuse', 'r+'));
    await until(() => existsSync(`${daemon}.up`), 'the daemon runs');
    const first = daemonPid();
    process.kill(first, 'SIGSTOP');
    await until(() => daemonPid() !== first, 'the next daemon');
    t.notOk(existsSync(`/proc/${first}/fd/3`));
    writeFileSync(`${daemon}.go`, '');
    child.kill('SIGTERM');
    t.same(await exit, [0, null]);
  },
);

t.test('what a later version puts in its place is started next, by whoever holds then', async (t) => {
  const { dir, pidFile, daemon, child, daemonPid, isOurs } = hold(t, openSync('/dev/null', 'r'));
  await until(() => existsSync(`${daemon}.up`), 'the daemon runs');
  const first = daemonPid();
  const [script, next] = [join(dir, 'next', 'holder.sh'), join(dir, 'next-daemon')];
  mkdirSync(join(dir, 'next'));
  // It goes on late once its process is on record: it is told to end then.
  const recorded = 'mv "$pid_file.new" "$pid_file"\n';
  const parts = readFileSync(HOLDER, 'utf8').split(recorded);
  t.equal(parts.length, 2);
  writeFileSync(script, parts.join(`${recorded}sleep 1\n`));
  const words = ['/bin/sh', '-c', DAEMON, next].map((word) => `'${word.replaceAll("'", "'\\''")}'`);
  writeFileSync(`${pidFile}.command.new`, `script='${script}'; set -- ${words.join(' ')}\n`);
  renameSync(`${pidFile}.command.new`, `${pidFile}.command`);
  for (const one of [daemon, next]) writeFileSync(`${one}.go`, '');
  process.kill(first, 'SIGTERM');
  await until(() => existsSync(`${next}.up`), 'the next daemon');
  t.ok(existsSync(`${daemon}.told`), 'the former ended as it does');
  const left = daemonPid();
  child.kill('SIGKILL');
  const holder = (): number => Number(readFileSync(pidFile, 'utf8'));
  await until(() => holder() !== child.pid, 'the second shell holds');
  t.equal(readFileSync(`/proc/${holder()}/cmdline`, 'utf8').split('\0')[1], script);
  // It is none of /dev/fuse: nobody waits for it.
  process.kill(left, 'SIGTERM');
  process.kill(holder(), 'SIGTERM');
  await until(() => !existsSync(pidFile), 'it ends');
  await until(() => !existsSync(`${pidFile}.command`), 'and leaves no command');
  await until(() => !isOurs(left), 'its daemon ends');
});
