import { spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { until } from '@sepia/test-support/until';
import t, { type Test } from 'tap';
import { whyNoFuse } from './support/why-no-fuse.ts';

const SCRIPT = join(import.meta.dirname, '../src/holder.sh');
const OPTIONS = { skip: whyNoFuse() ?? false };

/** The script with commands of the test's own: `mount` only notes that it was called. */
function hold(t: Test, commands: Readonly<Record<string, string>> = {}) {
  // Not of `t.testdir`, which goes before what runs in it is ended.
  const dir = mkdtempSync(join(tmpdir(), 'sepia-holder-'));
  const file = (name: string): string => join(dir, name);
  mkdirSync(file('bin'));
  const own = { mount: `echo mount >>${file('mounts')}`, umount: ':', ...commands };
  for (const [name, text] of Object.entries(own)) {
    writeFileSync(file(`bin/${name}`), `#!/bin/sh\n${text}\n`);
    chmodSync(file(`bin/${name}`), 0o755);
  }
  const daemon = `echo $$ >>${file('daemons')}; while [ -e ${dir} ]; do sleep 0.1; done`;
  spawn('/bin/sh', [SCRIPT, file('mnt'), file('pid'), '/bin/sh', '-c', daemon], {
    stdio: 'ignore',
    detached: true,
    env: { ...process.env, PATH: `${file('bin')}:${process.env['PATH']}` },
  });
  const lines = (name: string): string[] =>
    existsSync(file(name)) ? readFileSync(file(name), 'utf8').trim().split('\n') : [];
  const pid = (suffix = ''): number => Number(lines(`pid${suffix}`)[0] ?? 0);
  t.teardown(async () => {
    const holder = pid();
    if (holder > 0) process.kill(holder, 'SIGTERM');
    await until(() => !existsSync(file('pid')), 'the holder is gone');
    rmSync(dir, { recursive: true });
  });
  return { lines, pid };
}

t.test('a killed holder is followed by its second shell, which keeps the daemon', OPTIONS, async (t) => {
  const { lines, pid } = hold(t);
  await until(() => lines('daemons').length === 1 && pid('.second') > 0, 'a daemon and a second shell');
  const [holder, second, daemon] = [pid(), pid('.second'), pid('.daemon')];
  t.same(lines('daemons'), [String(daemon)]);
  process.kill(holder, 'SIGKILL');
  await until(() => pid() === second && pid('.second') !== second, 'the next holder has a second shell');
  t.equal(pid('.daemon'), daemon);
  process.kill(daemon, 'SIGKILL');
  await until(() => lines('daemons').length === 2, 'the next daemon');
  t.same(lines('mounts'), ['mount']);
});

t.test('one that is killed before it has a daemon too: nothing is mounted twice', OPTIONS, async (t) => {
  // The first time that the daemon's process is to be noted, whoever notes it and the holder are killed.
  const mv = `if [ "\${2##*.}" = daemon ] && [ ! -e "$2.killed" ]; then
    : >"$2.killed"
    kill -9 "$(cat "\${2%.daemon}")" $PPID
  else exec /bin/mv "$@"; fi`;
  const { lines, pid } = hold(t, { mv });
  await until(() => lines('daemons').length > 0, 'a daemon');
  t.equal(String(pid('.daemon')), lines('daemons')[0]);
  t.same(lines('mounts'), ['mount']);
  t.equal(lines('daemons').length, 1);
});
