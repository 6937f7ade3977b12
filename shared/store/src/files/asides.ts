import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import type { Logger } from '@sepia/base/log';
import type { FilePort } from './file-port.ts';

/** What is remembered of them; who looks into one finds the others beside it. */
const MAX_ASIDES = 1_000;
/** Paths that a warning names. */
const MAX_NAMED = 3;
const ASIDE = /\.aside-[0-9a-f]{8}$/;

/** Where a folder goes that lies in the place of a file. */
export function asideOf(path: string): string {
  return `${path}.aside-${randomBytes(4).toString('hex')}`;
}

/** Folders that were moved aside because they lay in the place of files. Nobody knows what is in them: they stay. */
export class Asides {
  readonly #log: Pick<Logger, 'warn'>;
  readonly #paths = new Set<string>();

  constructor(log: Pick<Logger, 'warn'>) {
    this.#log = log;
  }

  /** The same files: what they move aside, or list as moved aside by a former process, is told. */
  watch(files: FilePort): FilePort {
    const note = (path: string): void => this.#note(path);
    return {
      open: (path, mode) => files.open(path, mode),
      rename: (from, to) => files.rename(from, to, note),
      unlink: (path) => files.unlink(path),
      list: async (folder) => {
        const names = await files.list(folder);
        for (const name of names) if (ASIDE.test(name)) note(join(folder, name));
        return names;
      },
      stat: (path) => files.stat(path),
      makeFolder: (path) => files.makeFolder(path),
      syncFolder: (path) => files.syncFolder(path),
      touch: (path, atMs) => files.touch(path, atMs),
    };
  }

  /** Forgets what somebody took away meanwhile. */
  async look(files: Pick<FilePort, 'stat'>): Promise<void> {
    for (const path of [...this.#paths]) if ((await files.stat(path)) === undefined) this.#paths.delete(path);
  }

  /** In words, for `/readyz`; empty if nothing lies aside. */
  get warnings(): string[] {
    if (this.#paths.size === 0) return [];
    const named = [...this.#paths].slice(0, MAX_NAMED).join(', ');
    const more = this.#paths.size > MAX_NAMED ? ` and ${this.#paths.size - MAX_NAMED} more` : '';
    return [`aside: folders lay where files belong: look into ${named}${more}, then remove them`];
  }

  #note(path: string): void {
    if (this.#paths.has(path) || this.#paths.size >= MAX_ASIDES) return;
    this.#paths.add(path);
    this.#log.warn(
      { path },
      'a folder lay in the place of a file: it was moved aside; look into it, then remove it',
    );
  }
}
