import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fc } from '@sepia/test-support/property';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { createLogger } from '../src/log.ts';
import { type LogFile, LogSink, logLinesLost, openedFile } from '../src/log-sink.ts';

/** A disk with so much room, which writes when told to. */
class FakeDisk implements LogFile {
  room = Number.POSITIVE_INFINITY;
  text = '';
  /** Most bytes of one write. */
  most = Number.POSITIVE_INFINITY;
  code = 'ENOSPC';
  #running: (() => void)[] = [];

  write(bytes: Uint8Array, done: (error: Error | null, written: number) => void): void {
    this.#running.push(() => {
      let written = 0;
      try {
        written = this.writeSync(bytes);
      } catch (error) {
        done(error as Error, 0);
        return;
      }
      done(null, written);
    });
  }

  writeSync(bytes: Uint8Array): number {
    const count = Math.min(bytes.length, this.room, this.most);
    if (count === 0) throw Object.assign(new Error(`write: ${this.code}`), { code: this.code });
    this.text += Buffer.from(bytes.subarray(0, count)).toString();
    this.room -= count;
    return count;
  }

  get isBusy(): boolean {
    return this.#running.length > 0;
  }

  /** The write under way ends, and all that follow it. */
  run(): void {
    while (this.#running.length > 0) this.#running.shift()!();
  }
}

t.test('a full disk loses lines and nothing else; the log says how many when there is room', async (t) => {
  const disk = new FakeDisk();
  const log = createLogger('agent', 'a-1', 'info', new LogSink(disk));
  const before = logLinesLost();
  log.info('first');
  disk.run();
  disk.room = 10;
  log.info('torn');
  log.info('lost');
  disk.run();
  log.info('lost too');
  disk.run();
  t.equal(logLinesLost() - before, 3);
  disk.room = Number.POSITIVE_INFINITY;
  log.info('again');
  disk.run();
  const lines = disk.text.trimEnd().split('\n');
  t.equal(lines.length, 4);
  t.equal(lines[1]?.length, 10, 'the line that broke off is ended');
  t.match(JSON.parse(lines[2]!), { msg: 'again' });
  t.match(JSON.parse(lines[3]!), { level: 'warn', lost: 3, msg: /log lines were lost/, member: 'a-1' });
});

t.test('what nobody reads in time is lost, beyond a limit', async (t) => {
  const disk = new FakeDisk();
  const sink = new LogSink(disk, { maxBytes: 10 });
  const said: number[] = [];
  sink.onRoom = (lost) => said.push(lost);
  for (const line of ['1234\n', '2345\n', '3456\n', '4567\n', '5678\n']) sink.write(line);
  disk.run();
  t.equal(disk.text, '1234\n2345\n3456\n', 'one under way, two that wait');
  t.same(said, [2]);
});

t.test('a pipe that is full is tried again', async (t) => {
  const disk = new FakeDisk();
  const sink = new LogSink(disk, { retryMs: 1 });
  disk.code = 'EAGAIN';
  disk.room = 0;
  sink.write('a\n');
  sink.write('b\n');
  disk.run();
  disk.room = 100;
  // The sink's own timer holds no process open.
  const open = setInterval(() => undefined, 1_000);
  t.teardown(() => clearInterval(open));
  await until(() => disk.isBusy, 'it is tried again');
  disk.run();
  t.equal(disk.text, 'a\nb\n');
});

t.test('at the end of the process what waits is written, or lost', async (t) => {
  const disk = new FakeDisk();
  const sink = new LogSink(disk);
  for (const line of ['a\n', 'b\n', 'c\n']) sink.write(line);
  sink.flushSync();
  disk.run();
  t.same(disk.text.split('\n').sort(), ['', 'a', 'b', 'c'], 'each once');
  disk.room = 0;
  sink.write('d\n');
  sink.write('e\n');
  sink.flushSync();
  disk.run();
  t.notMatch(disk.text, /[de]/);
});

t.test('every line is written whole and in order, or counted', async () => {
  const step = fc.oneof(
    fc.record({ write: fc.integer({ min: 0, max: 30 }) }),
    fc.record({ room: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 60 })) }),
    fc.constant({ run: true }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), fc.integer({ min: 1, max: 20 }), (steps, most) => {
      const disk = new FakeDisk();
      disk.most = most;
      const sink = new LogSink(disk, { maxBytes: 100 });
      let lost = 0;
      sink.onRoom = (count) => {
        lost += count;
      };
      let count = 0;
      const write = (length: number): void => {
        sink.write(`<${count}${'x'.repeat(length)}>\n`);
        count += 1;
      };
      for (const one of steps) {
        if ('write' in one) write(one.write);
        else if ('room' in one) disk.room = one.room;
        else disk.run();
      }
      disk.room = Number.POSITIVE_INFINITY;
      disk.run();
      write(0);
      disk.run();
      const lines = disk.text.split('\n').filter((line) => /^<\d+x*>$/.test(line));
      const ids = lines.map((line) => Number(/\d+/.exec(line)?.[0]));
      const isSorted = ids.every((id, at) => at === 0 || id > ids[at - 1]!);
      return isSorted && ids.length + lost === count;
    }),
  );
});

t.test('a file on a disk without room', { skip: process.platform !== 'linux' }, async (t) => {
  const fd = openSync('/dev/full', 'w');
  t.teardown(() => closeSync(fd));
  const before = logLinesLost();
  const log = createLogger('agent', 'a-1', 'info', new LogSink(openedFile(fd)));
  log.info('one');
  log.info('two');
  await until(() => logLinesLost() - before === 2, 'both are counted');
});

t.test('a file takes what is logged', async (t) => {
  const file = join(t.testdir(), 'log');
  const fd = openSync(file, 'a');
  t.teardown(() => closeSync(fd));
  const log = createLogger('agent', 'a-1', 'info', new LogSink(openedFile(fd)));
  for (let at = 0; at < 100; at += 1) log.info({ at }, 'line');
  await until(() => readFileSync(file, 'utf8').split('\n').length === 101, 'all are there');
});

t.test(
  'a process whose log and standard error are full works on and ends well',
  { skip: process.platform !== 'linux' },
  async (t) => {
    const from = (name: string): string => JSON.stringify(new URL(`../src/${name}`, import.meta.url).href);
    const code = `
    import { createLogger } from ${from('log.ts')};
    import { logLinesLost } from ${from('log-sink.ts')};
    import { runService } from ${from('process.ts')};
    const log = createLogger('test', 't-1', 'info');
    log.info('starts');
    await runService('test', async () => ({ stop: async () => log.info('stops') }));
    let said = false;
    setInterval(() => {
      log.info('works');
      if (said || logLinesLost() < 3) return;
      said = true;
      process.emit('SIGHUP');
      setImmediate(() => process.send('alive'));
    }, 1);
  `;
    const full = openSync('/dev/full', 'w');
    const child = spawn(process.execPath, ['--input-type=module', '--eval', code], {
      stdio: ['ignore', full, full, 'ipc'],
      env: { PATH: process.env['PATH'] },
    });
    t.teardown(() => child.kill('SIGKILL'));
    closeSync(full);
    t.same((await once(child, 'message'))[0], 'alive');
    child.kill('SIGTERM');
    t.same(await once(child, 'exit'), [0, null]);
  },
);
