import { spawn } from 'node:child_process';
import { mkdir, open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { CodedError, systemCode } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { delay, type Stoppable } from '@sepia/base/lifecycle';
import { request } from 'undici';
import type { SnapshotterConfig } from './config.ts';

const START_MS = 60_000;
const POLL_MS = 100;

/**
 * Sees to it that a holder runs for this node, and waits until its daemon serves. Stopping leaves the holder: what is
 * mounted goes on being readable. `SIGTERM` to the holder (its pid is in `DATA/holder.pid`) ends the mount.
 * @throws {CodedError} `START_FAILED`
 */
export async function ensureHolder(
  config: SnapshotterConfig,
  command: readonly string[],
): Promise<Stoppable> {
  await mkdir(config.data, { recursive: true, mode: 0o700 });
  const pidFile = join(config.data, 'holder.pid');
  if (!(await isHolder(pidFile))) await startHolder(config, pidFile, command);
  await untilServed(config, pidFile);
  const alive = setInterval(() => undefined, 60_000);
  return {
    stop: async () => clearInterval(alive),
  };
}

async function startHolder(
  config: SnapshotterConfig,
  pidFile: string,
  command: readonly string[],
): Promise<void> {
  await clearMountPoint(config.mount);
  await mkdir(config.mount, { recursive: true, mode: 0o755 });
  const log = await open(join(config.data, 'log'), 'a', 0o640);
  try {
    const script = join(import.meta.dirname, 'holder.sh');
    const child = spawn('/bin/sh', [script, config.mount, pidFile, ...command], {
      detached: true,
      stdio: ['ignore', log.fd, log.fd],
      env: { ...process.env, SEPIA_SUPERVISOR: '' },
    });
    child.unref();
  } finally {
    await log.close();
  }
}

/** A mount that a dead holder left answers ENOTCONN: it goes first. */
async function clearMountPoint(mount: string): Promise<void> {
  const mounts = await readFile('/proc/self/mountinfo', 'utf8');
  if (!mounts.split('\n').some((line) => line.split(' ')[4] === mount)) return;
  await new Promise((settle) => spawn('umount', ['-l', mount], { stdio: 'ignore' }).once('exit', settle));
}

async function untilServed(config: SnapshotterConfig, pidFile: string): Promise<void> {
  const deadline = AbortSignal.timeout(START_MS);
  while (!(await isReady(config))) {
    try {
      await delay(POLL_MS, deadline);
    } catch (error) {
      throwIfBug(error);
      const holder = (await isHolder(pidFile)) ? 'the holder runs' : 'no holder runs';
      throw new CodedError('START_FAILED', {
        message: `the snapshotter does not serve (${holder}); see ${join(config.data, 'log')}`,
      });
    }
  }
}

async function isReady(config: SnapshotterConfig): Promise<boolean> {
  try {
    const { statusCode, body } = await request(`http://${config['admin-listen']}/readyz`, {
      headersTimeout: 2_000,
    });
    await body.dump();
    return statusCode === 200;
  } catch (error) {
    throwIfBug(error);
    return false;
  }
}

/** True if the pid file names a process that is our holder (a pid may be another's by now). */
async function isHolder(pidFile: string): Promise<boolean> {
  try {
    const pid = Number((await readFile(pidFile, 'utf8')).trim());
    if (!Number.isSafeInteger(pid) || pid <= 1) return false;
    return (await readFile(`/proc/${pid}/cmdline`, 'utf8')).includes('holder.sh');
  } catch (error) {
    if (systemCode(error) === 'ENOENT' || systemCode(error) === 'ESRCH') return false;
    throw error;
  }
}
