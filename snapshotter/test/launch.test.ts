import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, openSync, readFileSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join, resolve } from 'node:path';
import { checkConfig } from '@sepia/base/config/load';
import { until } from '@sepia/test-support/until';
import t, { type Test } from 'tap';
import type { z } from 'zod';
import { SNAPSHOTTER_CONFIG, type SnapshotterConfig } from '../src/index.ts';
import { ensureHolder } from '../src/launch.ts';
import { whyNoFuse } from './support/why-no-fuse.ts';

/** What is to be started, with what a shell would take otherwise. */
const COMMAND = ['/bin/true', '--config', "it's $HOME"];

/** A node whose daemon answers already; processes of the test stand in for shells and the daemon. */
async function node(t: Test) {
  const data = t.testdir();
  const pidFile = join(data, 'holder.pid');
  /** Looks at the daemon that it does not pass yet. */
  const doors = { closed: 0 };
  const server = createServer((_request, response) => {
    response.statusCode = doors.closed-- > 0 ? 503 : 200;
    response.end();
  });
  await new Promise<void>((settle) => server.listen(0, '127.0.0.1', settle));
  t.teardown(() => new Promise((settle) => server.close(settle)));
  const text = JSON.stringify({
    data,
    'admin-listen': `127.0.0.1:${(server.address() as AddressInfo).port}`,
    agent: 'http://127.0.0.1:9',
    mount: join(data, 'mnt'),
  });
  const schema = SNAPSHOTTER_CONFIG as unknown as z.ZodType<SnapshotterConfig>;
  const config = checkConfig(text, 'test', schema);
  const file = join(data, 'snapshotter.yaml');
  writeFileSync(file, text);
  const waiting = 'setInterval(() => {}, 1000)';
  const begin = (
    suffix: string,
    args: readonly string[],
    { fd = 'ignore', code = waiting }: { readonly fd?: number | 'ignore'; readonly code?: string } = {},
  ): ChildProcess => {
    const child = spawn(process.execPath, ['-e', code, ...args], {
      stdio: ['ignore', 'ignore', 'ignore', fd],
    });
    t.teardown(() => child.kill('SIGKILL'));
    writeFileSync(`${pidFile}${suffix}`, `${child.pid}\n`);
    return child;
  };
  const shell = (suffix: string): ChildProcess => begin(suffix, ['holder.sh', config.mount, pidFile]);
  const ensure = async (command: readonly string[] = COMMAND): Promise<void> => {
    const holder = await ensureHolder(config, { command, file });
    await holder.stop();
  };
  /** What a holder of ours says goes there. */
  const isStarted = (): boolean => existsSync(join(data, 'log'));
  return { config, file, pidFile, doors, begin, shell, ensure, isStarted };
}

t.test('no holder is started beside one that runs', async (t) => {
  const { shell, ensure, isStarted } = await node(t);
  shell('');
  await ensure();
  t.notOk(isStarted());
});

t.test('nor while the second shell of one that was killed takes its place', async (t) => {
  const { pidFile, shell, ensure, isStarted } = await node(t);
  const { pid } = spawn('/bin/true');
  writeFileSync(pidFile, `${pid}\n`);
  shell('.second');
  await ensure();
  t.notOk(isStarted());
});

t.test('nor while its daemon has the mount', { skip: whyNoFuse() ?? false }, async (t) => {
  const { begin, shell, ensure, isStarted } = await node(t);
  const fuse = openSync('/dev/fuse', 'r+');
  const daemon = begin('.daemon', [], { fd: fuse });
  closeSync(fuse);
  const message = new RegExp(`process ${daemon.pid} serves the mount .* "kill ${daemon.pid}"`);
  await t.rejects(ensure(), { code: 'START_FAILED', message });
  const ensured = ensure();
  shell('');
  await ensured;
  t.notOk(isStarted());
});

t.test('SIGHUP goes on to the daemon, once there is one', { skip: whyNoFuse() ?? false }, async (t) => {
  const { config, file, begin, shell } = await node(t);
  shell('');
  const holder = await ensureHolder(config, { command: COMMAND, file });
  t.teardown(() => holder.stop());
  t.match(await holder.reload?.(), /its daemon is starting/);
  const heard = join(config.data, 'heard');
  const fuse = openSync('/dev/fuse', 'r+');
  const says = (what: string): string => `require('fs').writeFileSync('${heard}', '${what}')`;
  const code = `process.on('SIGHUP', () => ${says('HUP')}); setInterval(() => {}, 1000); ${says('up')}`;
  const daemon = begin('.daemon', [], { fd: fuse, code });
  closeSync(fuse);
  const has = (what: string) => existsSync(heard) && readFileSync(heard, 'utf8') === what;
  await until(() => has('up'), 'the daemon listens');
  t.match(await holder.reload?.(), new RegExp(`passed on to its daemon \\(${daemon.pid}\\)`));
  await until(() => has('HUP'), 'the daemon heard of it');
});

/** A daemon that runs below a holder, and its command. */
function daemonOf({ begin, shell }: Awaited<ReturnType<typeof node>>) {
  shell('');
  const fuse = openSync('/dev/fuse', 'r+');
  const daemon = begin('.daemon', [], { fd: fuse });
  closeSync(fuse);
  return { daemon, command: [daemon.spawnfile, ...daemon.spawnargs.slice(1)] };
}

t.test(
  'a daemon of another version is followed by one of this',
  { skip: whyNoFuse() ?? false },
  async (t) => {
    const one = await node(t);
    const { daemon } = daemonOf(one);
    const ended = once(daemon, 'exit');
    await one.ensure();
    t.same(await ended, [null, 'SIGTERM']);
    const next = `${readFileSync(`${one.pidFile}.command`, 'utf8')}printf '%s\n' "$script" "$@"`;
    const said = execFileSync('/bin/sh', ['-c', next]).toString().split('\n');
    t.same(said, [resolve(import.meta.dirname, '../src/holder.sh'), ...COMMAND, '']);
    t.notOk(one.isStarted(), 'the holder goes on');
  },
);

t.test('so is one of this version that serves', { skip: whyNoFuse() ?? false }, async (t) => {
  const one = await node(t);
  const { daemon, command } = daemonOf(one);
  const ended = once(daemon, 'exit');
  await one.ensure(command);
  t.same(await ended, [null, 'SIGTERM']);
});

t.test('one that does not serve yet is left to its start', { skip: whyNoFuse() ?? false }, async (t) => {
  const one = await node(t);
  const { daemon, command } = daemonOf(one);
  one.doors.closed = 2;
  await one.ensure(command);
  t.same([daemon.exitCode, daemon.signalCode], [null, null]);
});

t.test('but not where its config has changed since', { skip: whyNoFuse() ?? false }, async (t) => {
  const one = await node(t);
  const { daemon, command } = daemonOf(one);
  const ended = once(daemon, 'exit');
  one.doors.closed = 2;
  const text = readFileSync(one.file);
  await until(() => {
    writeFileSync(one.file, text);
    return statSync(one.file).ctimeMs > statSync(`${one.pidFile}.daemon`).ctimeMs;
  }, 'the config is newer');
  await one.ensure(command);
  t.same(await ended, [null, 'SIGTERM']);
});

t.test('nor where it hangs, long after its start', { skip: whyNoFuse() ?? false }, async (t) => {
  const one = await node(t);
  const { daemon, command } = daemonOf(one);
  const ended = once(daemon, 'exit');
  const anHourAgo = Date.now() / 1000 - 3600;
  utimesSync(`${one.pidFile}.daemon`, anHourAgo, anHourAgo);
  one.doors.closed = 2;
  await one.ensure(command);
  t.same(await ended, [null, 'SIGTERM']);
});

t.test('a holder that has another mount is not told of ours', { skip: whyNoFuse() ?? false }, async (t) => {
  const one = await node(t);
  const { daemon } = daemonOf({
    ...one,
    shell: (suffix) => one.begin(suffix, ['holder.sh', '/mnt/other', one.pidFile]),
  });
  await t.rejects(one.ensure(), { code: 'START_FAILED', message: /holder that runs has \/mnt\/other/ });
  t.same([daemon.exitCode, daemon.signalCode], [null, null]);
  t.notOk(existsSync(`${one.pidFile}.command`));
});
