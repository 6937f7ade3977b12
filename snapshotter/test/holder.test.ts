import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { whyNoFuse } from './support/why-no-fuse.ts';

const HOLDER = resolve(import.meta.dirname, '../src/holder.sh');
/** Says that it was told to end, and does when the file GO is there. */
const DAEMON =
  'trap "touch $0.told; while [ ! -e $0.go ]; do sleep 0.02; done; exit 0" TERM; touch $0.up; while :; do sleep 0.02; done';

t.test('a holder that is told twice to end leaves no pid file and no daemon', async (t) => {
  const dir = t.testdir({ mount: {} });
  const pidFile = join(dir, 'holder.pid');
  const daemon = join(dir, 'daemon');
  // As one that takes the place of another: the mount is there, its descriptor is 3.
  const child = spawn('/bin/sh', [HOLDER, join(dir, 'mount'), pidFile, '/bin/sh', '-c', DAEMON, daemon], {
    env: { ...process.env, SEPIA_ORPHAN: '0' },
    stdio: ['ignore', 'ignore', 'ignore', openSync('/dev/null', 'r')],
  });
  t.teardown(() => child.kill('SIGKILL'));
  const exit = once(child, 'exit');
  await until(() => existsSync(`${daemon}.up`), 'the daemon runs');
  const daemonPid = Number(readFileSync(`${pidFile}.daemon`, 'utf8'));
  child.kill('SIGTERM');
  await until(() => existsSync(`${daemon}.told`), 'the daemon was told');
  child.kill('SIGTERM');
  writeFileSync(`${daemon}.go`, '');
  t.same(await exit, [0, null]);
  for (const file of [pidFile, `${pidFile}.second`, `${pidFile}.daemon`]) t.notOk(existsSync(file), file);
  t.notOk(
    existsSync(`/proc/${daemonPid}/fd`) &&
      readFileSync(`/proc/${daemonPid}/cmdline`, 'utf8').includes(daemon),
  );
});

t.test(
  'a daemon that is stopped is ended, and followed by the next',
  { skip: whyNoFuse() ?? false },
  async (t) => {
    const dir = t.testdir({ mount: {} });
    const pidFile = join(dir, 'holder.pid');
    const daemon = join(dir, 'daemon');
    const child = spawn('/bin/sh', [HOLDER, join(dir, 'mount'), pidFile, '/bin/sh', '-c', DAEMON, daemon], {
      env: { ...process.env, SEPIA_ORPHAN: '0' },
      stdio: ['ignore', 'ignore', 'ignore', openSync('/dev/fuse', 'r+')],
    });
    t.teardown(() => child.kill('SIGKILL'));
    const exit = once(child, 'exit');
    await until(() => existsSync(`${daemon}.up`), 'the daemon runs');
    const daemonPid = (): number => Number(readFileSync(`${pidFile}.daemon`, 'utf8'));
    const first = daemonPid();
    process.kill(first, 'SIGSTOP');
    await until(() => daemonPid() !== first, 'the next daemon');
    t.notOk(existsSync(`/proc/${first}/fd/3`));
    writeFileSync(`${daemon}.go`, '');
    child.kill('SIGTERM');
    t.same(await exit, [0, null]);
  },
);
