import { type ChildProcess, spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { boundedMs } from '@sepia/base/bounded-ms';
import { CodedError } from '@sepia/base/errors';
import { MOUNT_BESIDE_MS, MOUNT_KILLED_MS, MOUNT_MS } from '../deadlines.ts';

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

/** Targets at which the kernel hangs in a mount or unmount that nothing ends, and what runs there. */
const hanging = new Map<string, string>();

/** What hangs in the kernel, in words for `/readyz`; undefined if nothing does. */
export function mountLack(): string | undefined {
  const [first] = hanging;
  if (first === undefined) return undefined;
  const [target, command] = first;
  const more = hanging.size > 1 ? ` and ${hanging.size - 1} more` : '';
  return `the kernel hangs in ${command} ${target}${more}: layers there cannot be used; what it waits for must answer, else restart the machine`;
}

interface MountOptions {
  /** Until it is killed, and from then until it is left. */
  readonly waitMs?: number;
  readonly killedMs?: number;
  readonly start?: (command: string, args: readonly string[]) => ChildProcess;
}

function startChild(command: string, args: readonly string[]): ChildProcess {
  const path = `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin:/usr/bin:/bin`;
  return spawn(command, args, {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, LC_ALL: 'C', PATH: path },
  });
}

/**
 * Runs `mount` or `umount`. One that hangs is killed, and one that the kernel does not let go is left to itself: nobody waits for
 * it, and until it has ended its target is not touched again; others have little time beside it, so that many that hang take
 * little more than one. @throws {CodedError} `START_FAILED` with what it says, or why it cannot be started, or does not end
 */
export async function runMount(
  command: 'mount' | 'umount',
  args: readonly string[],
  {
    waitMs = hanging.size > 0 ? MOUNT_BESIDE_MS : MOUNT_MS,
    killedMs = MOUNT_KILLED_MS,
    start = startChild,
  }: MountOptions = {},
): Promise<void> {
  const target = args.at(-1) ?? '';
  const failed = (why: string, cause?: unknown): CodedError =>
    new CodedError('START_FAILED', { message: `${command} ${target}: ${why}`, cause });
  const before = hanging.get(target);
  if (before !== undefined) throw failed(`the kernel hangs there in ${before}`);
  const child = start(command, args);
  let stderr = '';
  let isEnded = false;
  // Without a descriptor for it there is no pipe, and an error comes.
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    stderr = (stderr + text).slice(0, 2_000);
  });
  const code = await new Promise<number | null>((resolve, reject) => {
    const kill = setTimeout(() => child.kill('SIGKILL'), boundedMs(waitMs));
    const leave = setTimeout(
      () => {
        // One that ended may have left its pipe to what it began, and would never be told as over.
        if (!isEnded) hanging.set(target, command);
        // Neither it nor its pipe keeps this process.
        child.unref();
        child.stderr?.destroy();
        reject(failed('the kernel hangs in it'));
      },
      boundedMs(waitMs + killedMs),
    );
    const over = (): void => {
      clearTimeout(kill);
      clearTimeout(leave);
    };
    child.once('error', (cause) => {
      over();
      reject(new CodedError('START_FAILED', { message: `${command}: ${cause.message}`, cause }));
    });
    child.once('exit', () => {
      isEnded = true;
      hanging.delete(target);
    });
    child.once('close', (exit) => {
      over();
      resolve(exit);
    });
  });
  if (code !== 0) throw failed(stderr.trim() || (code === null ? 'it was killed' : `exit ${code}`));
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
