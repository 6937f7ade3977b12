import { chmodSync, closeSync, existsSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { beginInScope, isOfUnit as isOf } from '../src/holder-scope.ts';

/** Begins what notes its process, with a program in the place of `systemd-run`. */
async function begun(t: Test, program: string | undefined): Promise<{ isBegun: boolean; pidFile: string }> {
  const dir = t.testdir({ 'systemd-run': program ?? '' });
  const fake = join(dir, program === undefined ? 'none' : 'systemd-run');
  if (program !== undefined) chmodSync(fake, 0o755);
  const pidFile = join(dir, 'pid');
  const logFd = openSync(join(dir, 'log'), 'a');
  t.teardown(() => {
    if (existsSync(pidFile)) process.kill(Number(readFileSync(pidFile, 'utf8')), 'SIGKILL');
    closeSync(logFd);
  });
  const hold = 'echo $$ >"$0.new" && mv "$0.new" "$0"; exec sleep 60';
  const isBegun = await beginInScope(['/bin/sh', '-c', hold, pidFile], {
    ...{ logFd, env: process.env, program: fake },
    isBegun: async () => existsSync(pidFile),
  });
  return { isBegun, pidFile };
}

t.test('what systemd begins in a scope is what was meant, and goes on', async (t) => {
  const { isBegun, pidFile } = await begun(
    t,
    '#!/bin/sh\n[ "$1 $4" = "--scope --property=Delegate=yes" ] && shift 5 && exec "$@"\n',
  );
  t.ok(isBegun);
  t.doesNotThrow(() => process.kill(Number(readFileSync(pidFile, 'utf8')), 0), 'it runs');
});

t.test('where systemd cannot be asked, or refuses, nothing was begun', async (t) => {
  t.match(await begun(t, undefined), { isBegun: false });
  t.match(await begun(t, '#!/bin/sh\necho "Failed to connect to bus" >&2\nexit 1\n'), { isBegun: false });
});

t.test('a process of a service ends with it', async (t) => {
  const isOfUnit = async (cgroup: string, first = 'systemd'): Promise<boolean> => {
    const proc = { 1: { comm: `${first}\n` }, self: { cgroup } };
    return await isOf(t.testdir({ proc, run: { systemd: { system: {} } } }));
  };
  t.ok(await isOfUnit('0::/system.slice/sepia.service\n'));
  t.ok(await isOfUnit('12:pids:/\n1:name=systemd:/system.slice/sepia.service/payload\n0::/\n'));
  t.notOk(await isOfUnit('0::/\n'));
  t.notOk(await isOfUnit('0::/user.slice/user-0.slice/session-3.scope\n'), 'a login has none');
  t.notOk(await isOfUnit('0::/system.slice/containerd.service/pod\n', 'node'), 'a container');
  t.notOk(await isOf(t.testdir({})), 'no systemd');
});
