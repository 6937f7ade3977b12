import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { delay } from '@sepia/base/lifecycle';
import { SCOPE_MS, START_POLL_MS } from './deadlines.ts';

const SYSTEMD_RUN = 'systemd-run';
/** Delegated, for by default systemd stops all of a scope of which the kernel killed one process for want of memory. */
const SCOPE = [
  '--scope',
  '--quiet',
  '--collect',
  '--property=Delegate=yes',
  '--description=Sepia: holder of mounted layers',
];

/** What goes on without whoever began it. */
export interface Begun {
  /** Where it says what it has to say. */
  readonly logFd: number;
  readonly env: NodeJS.ProcessEnv;
}

/**
 * True where systemd ends this process with a unit, and by default all that the unit began. A container that has the host's
 * `/run` has process numbers of its own: systemd may take one of them for that of another process.
 */
export async function isOfUnit(root = '/'): Promise<boolean> {
  if (!existsSync(join(root, 'run/systemd/system'))) return false;
  const [first, cgroup] = await Promise.all(
    ['1/comm', 'self/cgroup'].map(async (file) => await readFile(join(root, 'proc', file), 'utf8')),
  );
  return first!.trim() === 'systemd' && namesUnit(cgroup!);
}

/** True for `/proc/self/cgroup` of a process of a service. */
function namesUnit(cgroup: string): boolean {
  return /\.service(?:\/|$)/m.test(cgroup);
}

/** Begins a command that goes on without us. */
export function begin([program, ...args]: readonly string[], how: Begun): ReturnType<typeof spawn> {
  const child = spawn(program!, args, {
    detached: true,
    stdio: ['ignore', how.logFd, how.logFd],
    env: how.env,
  });
  child.unref();
  return child;
}

/**
 * Begins a command in a scope of systemd's, of its own: what ends the unit of whoever began it leaves it.
 * @param isBegun whether it runs
 * @returns false where it does not, in time: systemd cannot be asked, or it ended at once
 */
export async function beginInScope(
  command: readonly string[],
  how: Begun & { readonly isBegun: () => Promise<boolean>; readonly program?: string },
): Promise<boolean> {
  const child = begin([how.program ?? SYSTEMD_RUN, ...SCOPE, ...command], how);
  const late = AbortSignal.timeout(SCOPE_MS);
  let isOver = false;
  const over = (): void => {
    isOver = true;
  };
  child.once('error', over).once('exit', over);
  while (!isOver && !late.aborted) {
    if (await how.isBegun()) return true;
    await delay(START_POLL_MS);
  }
  if (await how.isBegun()) return true;
  child.kill('SIGKILL');
  return false;
}
