import { mkdir, open, readFile, readlink, realpath, rm, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { Passes } from '@sepia/base/async/passes';
import { CodedError, systemCode } from '@sepia/base/errors';
import { ignoreFailure, logFailure, throwIfBug } from '@sepia/base/failure';
import { delay } from '@sepia/base/lifecycle';
import { createLogger, type Logger } from '@sepia/base/log';
import type { Service } from '@sepia/base/process';
import { steadyMs } from '@sepia/base/reach';
import { diskFiles } from '@sepia/store/files/disk-files';
import { replaceWhole } from '@sepia/store/files/file-port';
import { request } from 'undici';
import type { SnapshotterConfig } from './config.ts';
import {
  BEGINNING_MS,
  FORMER_MS,
  LIVEZ_MS,
  READY_LOOK_MS,
  START_MS,
  START_POLL_MS,
  SUCCESSION_MS,
  UNSERVED_MS,
} from './deadlines.ts';
import { ContainerdSnapshots } from './doors/containerd-snapshots.ts';
import { ContentCache } from './doors/content-cache.ts';
import { UnservedLinks } from './doors/unserved-links.ts';
import { isMounted, runMount } from './files/mounts.ts';
import { begin, beginInScope, isOfUnit } from './holder-scope.ts';

const HOLDER = join(import.meta.dirname, 'holder.sh');
const ENDS_WITH_UNIT =
  'the holder has no scope of its own: a stop of this unit of systemd ends it, and containers lose their files; give the unit KillMode=process';

/** What a holder starts: its daemon, by a config file. */
interface DaemonCommand {
  readonly command: readonly string[];
  readonly file: string;
}

/**
 * Sees to it that a holder runs for this node, and waits until its daemon serves. Where one runs, the next daemon, of this version
 * and config, takes the place of its daemon; readers wait meanwhile. Stopping leaves the holder: what is mounted goes on being
 * readable. `SIGTERM` to the holder (its pid is in `DATA/holder.pid`) ends the mount. None is started while a killed holder's
 * second shell, or the daemon that it left, has the mount. SIGHUP is passed on to the daemon.
 * @throws {CodedError} `START_FAILED`
 */
export async function ensureHolder(config: SnapshotterConfig, daemon: DaemonCommand): Promise<Service> {
  await mkdir(config.data, { recursive: true, mode: 0o700 });
  const pidFile = pidFileOf(config);
  const isFollowed = await isHeld(pidFile);
  if (isFollowed) await follow(config, pidFile, daemon);
  else await startHolder(config, pidFile, daemon.command);
  await untilServed(config, pidFile);
  if (isFollowed) await checkFollowed(pidFile, daemon.command, launcherLog(config));
  const alive = setInterval(() => undefined, 60_000);
  const endWatch = watchLinks(config);
  return {
    stop: async () => {
      clearInterval(alive);
      await endWatch();
    },
    reload: async () => await passOn(pidFile, join(config.data, 'log')),
  };
}

/** Looks after the links that lead into the mount, for as long as this process runs. */
function watchLinks(config: SnapshotterConfig): () => Promise<void> {
  // Where containerd asks our own snapshotter, nothing looks into the folder.
  if (config['snapshots-socket'] !== undefined) return async () => undefined;
  const log = launcherLog(config);
  const containerd = new ContainerdSnapshots(config.containerd);
  const unserved = new UnservedLinks(
    {
      isServing: async () => await isServing(config),
      links: new ContentCache(config['content-cache']),
      named: async () => await containerd.layers(),
      log,
      nowMs: steadyMs,
    },
    { mount: config.mount },
  );
  const passes = new Passes({
    name: 'unserved-links',
    pass: async () => await unserved.look(),
    firstMs: READY_LOOK_MS,
    rest: ({ isFailed }) => (isFailed ? UNSERVED_MS : READY_LOOK_MS),
    log,
    failed: 'no daemon serves the mount, and nobody knows which layers are in use: all stay shown',
    level: 'warn',
  });
  passes.start();
  return async () => {
    containerd.close();
    await passes.stop();
  };
}

/** Where the holder of a node notes its process; beside it those of its second shell and its daemon. */
export function pidFileOf({ data }: Pick<SnapshotterConfig, 'data'>): string {
  return join(data, 'holder.pid');
}

/** Whether a holder runs, or the second shell that takes the place of a killed one. */
export async function hasHolder(pidFile: string): Promise<boolean> {
  return (await isHolder(pidFile)) || (await isHolder(pidFile, '.second'));
}

/** Tells the daemon to read its config again; what it says goes to its log. */
async function passOn(pidFile: string, log: string): Promise<string> {
  const daemon = await daemonOf(pidFile);
  if (daemon === undefined) return 'its daemon is starting, and reads the config as it is now';
  try {
    process.kill(daemon, 'SIGHUP');
  } catch (error) {
    if (systemCode(error) !== 'ESRCH') throw error;
    return 'its daemon is gone; the next one reads the config as it is now';
  }
  return `passed on to its daemon (${daemon}), which says in ${log} what is in force`;
}

async function startHolder(
  config: SnapshotterConfig,
  pidFile: string,
  command: readonly string[],
): Promise<void> {
  await clearMountPoint(config.mount);
  // Layers are the whole of images, private ones too, whatever the modes of the files in them: they are root's alone.
  await mkdir(config.mount, { recursive: true, mode: 0o700 });
  const log = await open(join(config.data, 'log'), 'a', 0o640);
  try {
    // Of a holder that was killed with all that it had.
    await rm(nextFileOf(pidFile), { force: true });
    const holder = ['/bin/sh', HOLDER, config.mount, pidFile, ...command];
    const how = { logFd: log.fd, env: { ...process.env, SEPIA_SUPERVISOR: '' } };
    const isUnits = await isOfUnit();
    if (isUnits && (await beginInScope(holder, { ...how, isBegun: () => isHolder(pidFile) }))) return;
    if (isUnits) launcherLog(config).warn(ENDS_WITH_UNIT);
    begin(holder, how);
  } finally {
    await log.close();
  }
}

/**
 * Tells the holder that runs what to start from now on, and ends the daemon that is not of that.
 * @throws {CodedError} `START_FAILED` where its mount is not the config's
 */
async function follow(config: SnapshotterConfig, pidFile: string, daemon: DaemonCommand): Promise<void> {
  const log = launcherLog(config);
  const held = (await mountHeldBy(pidFile, pidFile)) ?? (await mountHeldBy(`${pidFile}.second`, pidFile));
  const mount = held ?? config.mount;
  if (resolve(mount) !== resolve(config.mount))
    throw new CodedError('START_FAILED', {
      message: `mount is ${config.mount}, and the holder that runs has ${mount}: write that, or end the holder (its pid is in ${pidFile}) when no container of this node needs it`,
    });
  const path = nextFileOf(pidFile);
  const text = `script=${quoted(HOLDER)}; set -- ${daemon.command.map(quoted).join(' ')}\n`;
  try {
    await rm(`${path}.new`, { force: true });
    await replaceWhole(diskFiles, { path, temporary: `${path}.new`, durable: false }, Buffer.from(text));
  } catch (error) {
    // A full disk keeps no daemon from its start.
    logFailure(log, error, 'the holder goes on with the command that it has');
  }
  const pid = await daemonOf(pidFile);
  if (pid === undefined || (await isBeginning(config, pidFile, pid, daemon))) return;
  log.info({ pid }, 'the daemon before ends; the next one is of this version and config');
  await endDaemon(pidFile, pid);
}

/**
 * True for a daemon of this command and config that does not serve yet: who starts this command again and again must not keep
 * it from its start. One that hangs is not left to that for ever.
 */
async function isBeginning(
  config: SnapshotterConfig,
  pidFile: string,
  pid: number,
  { command, file }: DaemonCommand,
): Promise<boolean> {
  const [found, began, changed] = await Promise.all([
    commandOf(pid),
    ofProcess(() => stat(`${pidFile}.daemon`)),
    stat(file),
  ]);
  if (began === undefined || Date.now() - began.mtimeMs > BEGINNING_MS) return false;
  const isSame = found?.join('\0') === command.join('\0') && changed.ctimeMs <= began.ctimeMs;
  return isSame && !(await isServing(config));
}

/** Told to end; killed where it does not: readers wait. */
async function endDaemon(pidFile: string, pid: number): Promise<void> {
  const late = AbortSignal.timeout(FORMER_MS);
  for (let signal: NodeJS.Signals | 0 = 'SIGTERM'; (await daemonOf(pidFile)) === pid; signal = 0) {
    await ofProcess(async () => process.kill(pid, late.aborted ? 'SIGKILL' : signal));
    await delay(START_POLL_MS);
  }
}

/** A holder of an earlier version knows of no other command than its own. */
async function checkFollowed(pidFile: string, command: readonly string[], log: Logger): Promise<void> {
  const pid = await daemonOf(pidFile);
  const found = pid === undefined ? undefined : await commandOf(pid);
  if (found === undefined || found.join('\0') === command.join('\0')) return;
  log.warn(
    { pid, command: found.join(' ') },
    'the holder of an earlier version goes on with that version: keep its files, and end it (its pid is in holder.pid) when no container of this node needs it',
  );
}

/** Where a holder finds what to start next, if that is not what it was begun with. */
function nextFileOf(pidFile: string): string {
  return `${pidFile}.command`;
}

/** As one word of the shell. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

function launcherLog(config: SnapshotterConfig): Logger {
  return createLogger('snapshotter', 'launcher', config.log.level);
}

/** A mount that a dead holder left answers ENOTCONN: it goes first. Where it cannot, the new one lies over it. */
async function clearMountPoint(mount: string): Promise<void> {
  // The kernel tells it by a path without links.
  const real = await realpath(mount).catch(ignoreFailure);
  if (real !== undefined && (await isMounted(real)))
    await runMount('umount', ['-l', real]).catch(ignoreFailure);
}

async function untilServed(config: SnapshotterConfig, pidFile: string): Promise<void> {
  const deadline = AbortSignal.timeout(START_MS);
  while (!(await isServing(config))) {
    try {
      await delay(START_POLL_MS, deadline);
    } catch (error) {
      throwIfBug(error);
      const holder = (await isHolder(pidFile)) ? 'the holder runs' : 'no holder runs';
      throw new CodedError('START_FAILED', {
        message: `the snapshotter does not serve (${holder}); see ${join(config.data, 'log')}`,
      });
    }
  }
}

/** Its doors are open: whether it can do its whole job, without an agent above all, is another question. */
async function isServing(config: SnapshotterConfig): Promise<boolean> {
  try {
    const { statusCode, body } = await request(`http://${config['admin-listen']}/livez`, {
      headersTimeout: LIVEZ_MS,
    });
    await body.dump();
    return statusCode === 200;
  } catch (error) {
    throwIfBug(error);
    return false;
  }
}

/**
 * True if a holder runs, or a second shell that takes its place. A daemon without either gets none any more: what it
 * serves would be hidden by another mount. @throws {CodedError} `START_FAILED` then
 */
async function isHeld(pidFile: string): Promise<boolean> {
  const untilMs = performance.now() + SUCCESSION_MS;
  while (!(await hasHolder(pidFile))) {
    const daemon = await daemonOf(pidFile);
    if (daemon === undefined) return false;
    if (performance.now() > untilMs)
      throw new CodedError('START_FAILED', {
        message: `process ${daemon} serves the mount and its holder is gone: "kill ${daemon}" ends it, and what is mounted from it; then start again`,
      });
    await delay(START_POLL_MS);
  }
  return true;
}

/** The daemon on record, if it has the mount. */
async function daemonOf(pidFile: string): Promise<number | undefined> {
  const pid = await pidIn(`${pidFile}.daemon`);
  const file = pid === undefined ? undefined : await ofProcess(() => readlink(`/proc/${pid}/fd/3`));
  return file === '/dev/fuse' ? pid : undefined;
}

/** Program and arguments of a process; undefined if it is gone. */
async function commandOf(pid: number): Promise<string[] | undefined> {
  const text = await ofProcess(() => readFile(`/proc/${pid}/cmdline`, 'utf8'));
  return text?.split('\0').slice(0, -1);
}

/** True if the pid file names a shell that holds for it. */
async function isHolder(pidFile: string, which: '' | '.second' = ''): Promise<boolean> {
  return (await mountHeldBy(`${pidFile}${which}`, pidFile)) !== undefined;
}

/** Where the shell that a file names, or which takes its place, has its mount (a pid may be another's by now). */
async function mountHeldBy(file: string, pidFile: string): Promise<string | undefined> {
  const pid = await pidIn(file);
  const command = pid === undefined ? undefined : await commandOf(pid);
  if (command === undefined || !command.some((word) => word.includes('holder.sh'))) return undefined;
  return command[command.indexOf(pidFile) - 1];
}

async function pidIn(file: string): Promise<number | undefined> {
  const pid = Number(((await ofProcess(() => readFile(file, 'utf8'))) ?? '').trim());
  return Number.isSafeInteger(pid) && pid > 1 ? pid : undefined;
}

/** What is read of a process, or done with it or its pid file; undefined if it is gone. */
async function ofProcess<T>(read: () => Promise<T>): Promise<T | undefined> {
  try {
    return await read();
  } catch (error) {
    if (systemCode(error) === 'ENOENT' || systemCode(error) === 'ESRCH') return undefined;
    throw error;
  }
}
