import { spawnSync } from 'node:child_process';
import { closeSync, constants, openSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { MAIN } from '../support/sepia.ts';

const sepiaTo = (stdout: number, ...args: string[]) =>
  spawnSync(process.execPath, [MAIN, ...args], { stdio: ['ignore', stdout, 'pipe'], encoding: 'utf8' });

t.test('a reader that is gone ends a command without a word', async (t) => {
  const fifo = join(t.testdir(), 'fifo');
  t.equal(spawnSync('mkfifo', [fifo]).status, 0);
  const reader = openSync(fifo, constants.O_RDONLY | constants.O_NONBLOCK);
  const writer = openSync(fifo, 'w');
  closeSync(reader);
  t.teardown(() => closeSync(writer));
  const { status, stderr } = sepiaTo(writer, 'config', 'agent');
  t.equal(stderr, '');
  t.equal(status, 141);
});

t.test('a full disk is told in one line', async (t) => {
  const full = openSync('/dev/full', 'w');
  t.teardown(() => closeSync(full));
  const { status, stderr } = sepiaTo(full, 'config', 'agent');
  t.equal(stderr, 'sepia: standard output cannot be written (ENOSPC)\n');
  t.equal(status, 2);
});
