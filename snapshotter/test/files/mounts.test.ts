import { type ChildProcess, spawn } from 'node:child_process';
import { EventEmitter } from 'node:events';
import { PassThrough } from 'node:stream';
import { until } from '@sepia/test-support/until';
import { VirtualTime } from '@sepia/test-support/virtual-time';
import t from 'tap';
import { MOUNT_BESIDE_MS, MOUNT_KILLED_MS } from '../../src/deadlines.ts';
import { mountLack, runMount } from '../../src/files/mounts.ts';

/** A command that the kernel does not let go, also when it is killed. */
class Hanging extends EventEmitter {
  readonly stderr = new PassThrough();
  readonly signals: unknown[] = [];
  isLeft = false;

  kill(signal: unknown): boolean {
    this.signals.push(signal);
    return true;
  }

  unref(): void {
    this.isLeft = true;
  }

  end(): void {
    this.emit('exit', null, 'SIGKILL');
    this.emit('close', null);
  }
}

t.test(
  'a mount that hangs is killed, then left; its target is not touched again before it ended',
  async (t) => {
    const child = new Hanging();
    const started: string[] = [];
    const start = (command: string): ChildProcess => {
      started.push(command);
      return child as unknown as ChildProcess;
    };
    const hung = { code: 'START_FAILED', message: 'mount /layer: the kernel hangs in it' } as const;
    await t.rejects(runMount('mount', ['image', '/layer'], { waitMs: 1, killedMs: 1, start }), hung);
    t.same(child.signals, ['SIGKILL']);
    t.ok(child.isLeft);
    t.ok(child.stderr.destroyed);
    t.match(mountLack(), /^the kernel hangs in mount \/layer: /);
    await t.rejects(runMount('umount', ['-l', '/layer'], { start }), {
      code: 'START_FAILED',
      message: 'umount /layer: the kernel hangs there in mount',
    });
    t.same(started, ['mount'], 'nothing waits behind it');
    const other = new Hanging();
    const second = runMount('mount', ['image', '/other'], {
      waitMs: 1,
      killedMs: 1,
      start: () => other as unknown as ChildProcess,
    });
    await t.rejects(second, { code: 'START_FAILED' });
    t.match(mountLack(), /\/layer and 1 more: /);
    child.end();
    t.match(mountLack(), /\/other: /);
    other.end();
    t.equal(mountLack(), undefined);
  },
);

t.test(
  'beside one that hangs another has little time: many that hang take little more than one',
  async (t) => {
    const first = new Hanging();
    const start = (): ChildProcess => first as unknown as ChildProcess;
    await t.rejects(runMount('mount', ['/first'], { waitMs: 1, killedMs: 1, start }));
    const time = new VirtualTime().install();
    t.teardown(() => time.uninstall());
    const next = new Hanging();
    const beside = runMount('mount', ['/next'], { start: () => next as unknown as ChildProcess });
    await t.rejects(time.settle(beside), { message: 'mount /next: the kernel hangs in it' });
    t.equal(time.elapsedMs, MOUNT_BESIDE_MS + MOUNT_KILLED_MS);
    first.end();
    next.end();
  },
);

t.test('one that ended, and left its pipe to what it began, keeps nobody from its target', async (t) => {
  const child = new Hanging();
  const start = (): ChildProcess => child as unknown as ChildProcess;
  const run = runMount('mount', ['image', '/helped'], { waitMs: 1, killedMs: 1, start });
  child.emit('exit', null, 'SIGKILL');
  await t.rejects(run, { code: 'START_FAILED' });
  t.equal(mountLack(), undefined);
});

t.test('a command that is slow is killed, and says so; one that fails says why', async (t) => {
  const sh = (script: string) => (): ChildProcess =>
    spawn('/bin/sh', ['-c', script], { stdio: ['ignore', 'ignore', 'pipe'] });
  await t.rejects(runMount('mount', ['/slow'], { waitMs: 1, killedMs: 60_000, start: sh('exec sleep 60') }), {
    code: 'START_FAILED',
    message: 'mount /slow: it was killed',
  });
  await t.rejects(runMount('mount', ['/bad'], { start: sh('echo no such thing >&2; exit 3') }), {
    message: 'mount /bad: no such thing',
  });
  await t.rejects(runMount('mount', ['/bad'], { start: sh('exit 3') }), { message: 'mount /bad: exit 3' });
  await runMount('mount', ['/good'], { start: sh('exit 0') });
  await until(() => mountLack() === undefined, 'nothing hangs');
});
