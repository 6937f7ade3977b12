import { spawn } from 'node:child_process';
import { readFile, stat, writeFile } from 'node:fs/promises';
import { CodedError, systemCode } from '@sepia/base/errors';
import { MOUNT_MS } from '../deadlines.ts';

/** How a mounted layer was found. */
type Found = 'none' | 'ours' | 'stale';

interface Options {
  /** Where layers are files (the FUSE mount): another mount there makes older layer mounts dead. */
  readonly source: string;
}

/**
 * Layers as mounted EROFS images. `mount(8)` decides how: as a file where kernel and util-linux can, else by a loop
 * device. It runs in a process of its own: whoever mounts waits for reads that this process answers.
 */
export class LayerMounts {
  readonly #options: Options;

  constructor(options: Options) {
    this.#options = options;
  }

  /** Sees to it that `image` is mounted at `target`, from the source that is there now. @throws {CodedError} `START_FAILED` */
  async ensure(image: string, target: string): Promise<void> {
    const source = await this.#sourceId();
    const found = await this.#find(target, source);
    if (found === 'ours') return;
    // Who has the dead one open keeps it.
    if (found === 'stale') await this.release(target);
    await run('mount', ['-t', 'erofs', '-o', 'ro', image, target]);
    await writeFile(`${target}.source`, source);
  }

  /** Nothing is mounted at `target` afterwards; whoever is in it still sees it. @throws {CodedError} `START_FAILED` */
  async release(target: string): Promise<void> {
    if (await isMounted(target)) await run('umount', ['-l', target]);
  }

  async #find(target: string, source: string): Promise<Found> {
    if (!(await isMounted(target))) return 'none';
    try {
      return (await readFile(`${target}.source`, 'utf8')) === source ? 'ours' : 'stale';
    } catch (error) {
      if (systemCode(error) !== 'ENOENT') throw error;
      return 'stale';
    }
  }

  /** Device of the FUSE mount and when it was made: a new mount has another. */
  async #sourceId(): Promise<string> {
    const { dev, ino } = await stat(this.#options.source);
    const line = (await mountLines()).find((fields) => unescaped(fields[4] ?? '') === this.#options.source);
    return `${dev} ${ino} ${line?.[0] ?? ''}`;
  }
}

async function mountLines(): Promise<string[][]> {
  const text = await readFile('/proc/self/mountinfo', 'utf8');
  return text
    .split('\n')
    .map((line) => line.split(' '))
    .toReversed();
}

async function isMounted(path: string): Promise<boolean> {
  return (await mountLines()).some((fields) => unescaped(fields[4] ?? '') === path);
}

/** Blanks and backslashes are octal in mountinfo. */
function unescaped(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_all, octal: string) =>
    String.fromCharCode(Number.parseInt(octal, 8)),
  );
}

async function run(command: string, args: readonly string[]): Promise<void> {
  const child = spawn(command, args, {
    stdio: ['ignore', 'ignore', 'pipe'],
    timeout: MOUNT_MS,
    killSignal: 'SIGKILL',
    env: { ...process.env, LC_ALL: 'C', PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin:/usr/bin:/bin` },
  });
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr = (stderr + text).slice(0, 2_000);
  });
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  if (code !== 0)
    throw new CodedError('START_FAILED', {
      message: `${command} ${args.at(-1)}: ${stderr.trim() || `exit ${code}`}`,
    });
}
