import { mkdir, readdir, readlink, rename, rm, symlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { KeyedLocks } from '@sepia/base/async/keyed-locks';
import { type Digest, digestHex, isDigest } from '@sepia/base/digest';
import { systemCode } from '@sepia/base/errors';

/**
 * Door 1: the folder that containerd's erofs snapshotter looks layers up in (`layer_content_caches`), by diffID. It is
 * an ordinary folder, so that a look-up of what is not shown never waits for the mount; entries are links to its files.
 */
export class ContentCache {
  readonly #dir: string;
  /** Changes of an entry come one after the other. */
  readonly #turns = new KeyedLocks<Digest>();

  constructor(dir: string) {
    this.#dir = dir;
  }

  /** Where containerd looks: `<dir>/sha256/<first two>/<hex>.erofs`. */
  pathOf(diffId: Digest): string {
    const hex = digestHex(diffId);
    return join(this.#dir, diffId.slice(0, diffId.indexOf(':')), hex.slice(0, 2), `${hex}.erofs`);
  }

  /** Links a diffID to a file of the mount; an entry that is there is replaced at once. */
  async publish(diffId: Digest, target: string): Promise<void> {
    await this.#turns.run(diffId, () => this.#link(diffId, target));
  }

  /** Links an entry that is there to another file. */
  async repoint(diffId: Digest, target: string): Promise<void> {
    await this.#turns.run(diffId, async () => {
      if (await this.has(diffId)) await this.#link(diffId, target);
    });
  }

  async #link(diffId: Digest, target: string): Promise<void> {
    const path = this.pathOf(diffId);
    await mkdir(dirname(path), { recursive: true, mode: 0o755 });
    const fresh = `${path}.new`;
    await rm(fresh, { force: true });
    await symlink(target, fresh);
    await rename(fresh, path);
  }

  /** Takes an entry away, if it may still go then; containerd pulls that layer the ordinary way from now on. */
  async withdraw(diffId: Digest, mayGo: () => boolean = () => true): Promise<void> {
    await this.#turns.run(diffId, async () => {
      if (mayGo()) await rm(this.pathOf(diffId), { force: true });
    });
  }

  /** True if containerd would find a layer with this diffID. */
  async has(diffId: Digest): Promise<boolean> {
    try {
      await readlink(this.pathOf(diffId));
      return true;
    } catch (error) {
      if (systemCode(error) === 'ENOENT') return false;
      throw error;
    }
  }

  /** Entries that are there. */
  async list(): Promise<{ diffId: Digest; path: string; target: string }[]> {
    const found: { diffId: Digest; path: string; target: string }[] = [];
    for (const algorithm of await names(this.#dir))
      for (const shard of await names(join(this.#dir, algorithm)))
        for (const name of await names(join(this.#dir, algorithm, shard))) {
          const path = join(this.#dir, algorithm, shard, name);
          const diffId = `${algorithm}:${name.replace(/\.erofs$/, '')}`;
          if (!name.endsWith('.erofs') || !isDigest(diffId)) continue;
          found.push({ diffId, path, target: await readlink(path) });
        }
    return found;
  }
}

async function names(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return [];
    throw error;
  }
}
