import { spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { CodedError } from '@sepia/base/errors';
import { MOUNT_MS } from '../deadlines.ts';

/** What is mounted for this process, a line of fields each, the newest first. */
export async function mountLines(): Promise<string[][]> {
  const text = await readFile('/proc/self/mountinfo', 'utf8');
  return text
    .split('\n')
    .map((line) => line.split(' '))
    .toReversed();
}

/** Where a line's file system is mounted: blanks and backslashes are octal there. */
export function pointOf(fields: readonly string[]): string {
  return (fields[4] ?? '').replace(/\\([0-7]{3})/g, (_all, octal: string) =>
    String.fromCharCode(Number.parseInt(octal, 8)),
  );
}

/** Something is mounted at that very path. */
export async function isMounted(path: string): Promise<boolean> {
  return (await mountLines()).some((fields) => pointOf(fields) === path);
}

/** Runs `mount` or `umount`. @throws {CodedError} `START_FAILED` with what it says, or why it cannot be started */
export async function runMount(command: 'mount' | 'umount', args: readonly string[]): Promise<void> {
  const child = spawn(command, args, {
    stdio: ['ignore', 'ignore', 'pipe'],
    timeout: MOUNT_MS,
    killSignal: 'SIGKILL',
    env: { ...process.env, LC_ALL: 'C', PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin:/usr/bin:/bin` },
  });
  let stderr = '';
  // Without a descriptor for it there is no pipe, and an error comes.
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    stderr = (stderr + text).slice(0, 2_000);
  });
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', (cause) =>
      reject(new CodedError('START_FAILED', { message: `${command}: ${cause.message}`, cause })),
    );
    child.once('close', resolve);
  });
  if (code !== 0)
    throw new CodedError('START_FAILED', {
      message: `${command} ${args.at(-1)}: ${stderr.trim() || `exit ${code}`}`,
    });
}

/**
 * Snapshots lie in the data folder and become options of an overlay, where these end a path. `lies`: where its links lead.
 * @throws {CodedError} `CONFIG_INVALID`
 */
export function checkOverlayPath(data: string, lies = data): void {
  if (!/[:,\\]/.test(lies)) return;
  const where = lies === data ? data : `${data} leads to ${lies}, which`;
  throw new CodedError('CONFIG_INVALID', {
    message: `data: ${where} has a colon, comma or backslash, which no overlay of snapshots-socket can name: choose another folder`,
    detail: { key: 'data' },
  });
}
