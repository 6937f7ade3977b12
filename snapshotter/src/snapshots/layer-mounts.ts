import { readFile, stat, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { systemCode } from '@sepia/base/errors';
import { isMounted, mountLines, pointOf, runMount } from '../files/mounts.ts';

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
    await runMount('mount', ['-t', 'erofs', '-o', 'ro', image, target]);
    await writeFile(`${target}.source`, source);
  }

  /** Something is mounted at `target`: told by what two folders are on, for who starts a container waits for it. */
  async isThere(target: string): Promise<boolean> {
    try {
      const [own, above] = await Promise.all([stat(target), stat(dirname(target))]);
      return own.dev !== above.dev;
    } catch (error) {
      if (systemCode(error) !== 'ENOENT') throw error;
      return false;
    }
  }

  /** Nothing is mounted at `target` afterwards; whoever is in it still sees it. @throws {CodedError} `START_FAILED` */
  async release(target: string): Promise<void> {
    if (await isMounted(target)) await runMount('umount', ['-l', target]);
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
    const line = (await mountLines()).find((fields) => pointOf(fields) === this.#options.source);
    return `${dev} ${ino} ${line?.[0] ?? ''}`;
  }
}
