import { type FileHandle, mkdir, open, readdir, rename, stat, unlink, utimes } from 'node:fs/promises';
import { CodedError, systemCode } from '@sepia/base/errors';
import { ended } from '@sepia/base/failure';
import type { FileFacts, FilePort, OpenFile, OpenMode } from './file-port.ts';

const FLAGS = { read: 'r', update: 'r+', create: 'wx+' } as const satisfies Record<OpenMode, string>;
const FULL = new Set(['ENOSPC', 'EDQUOT', 'EFBIG']);
const FAILING = new Set(['EIO', 'EROFS', 'EUCLEAN']);

/** The real file system. */
export const diskFiles: FilePort = {
  async open(path: string, mode: OpenMode): Promise<OpenFile> {
    return new DiskFile(await told(path, () => open(path, FLAGS[mode], 0o640)), path);
  },
  rename: (from, to) => told(to, () => rename(from, to)),
  unlink: (path) => unlessMissing(undefined, () => told(path, () => unlink(path))),
  list: (folder) => unlessMissing<string[]>([], () => told(folder, () => readdir(folder))),
  stat: (path) => unlessMissing<FileFacts | undefined>(undefined, () => told(path, () => facts(path))),
  async makeFolder(path: string): Promise<void> {
    try {
      await told(path, () => mkdir(path, { mode: 0o750 }));
    } catch (error) {
      if (systemCode(error) !== 'EEXIST') throw error;
    }
  },
  async syncFolder(path: string): Promise<void> {
    const folder = await told(path, () => open(path, 'r'));
    try {
      await told(path, () => folder.sync());
    } finally {
      await folder.close();
    }
  },
  touch: (path, atMs) =>
    unlessMissing(undefined, () => told(path, () => utimes(path, atMs / 1000, atMs / 1000))),
};

class DiskFile implements OpenFile {
  readonly #handle: FileHandle;
  readonly #path: string;
  #closing: Promise<void> | undefined;
  #writing: Promise<unknown> = Promise.resolve();

  constructor(handle: FileHandle, path: string) {
    this.#handle = handle;
    this.#path = path;
  }

  async read(into: Uint8Array, at: number): Promise<number> {
    let done = 0;
    while (done < into.length) {
      const { bytesRead } = await told(this.#path, () =>
        this.#handle.read(into, done, into.length - done, at + done),
      );
      if (bytesRead === 0) break;
      done += bytesRead;
    }
    return done;
  }

  /** One after the other: the kernel has one lock per file for all who write, and threads spin while they wait for it. */
  write(bytes: Uint8Array, at: number): Promise<void> {
    const write = this.#writing.then(async () => await this.#write(bytes, at));
    this.#writing = ended(write);
    return write;
  }

  async #write(bytes: Uint8Array, at: number): Promise<void> {
    let done = 0;
    while (done < bytes.length) {
      const { bytesWritten } = await told(this.#path, () =>
        this.#handle.write(bytes, done, bytes.length - done, at + done),
      );
      done += bytesWritten;
    }
  }

  truncate(sizeBytes: number): Promise<void> {
    return told(this.#path, () => this.#handle.truncate(sizeBytes));
  }

  sync(): Promise<void> {
    return told(this.#path, () => this.#handle.datasync());
  }

  async sizeBytes(): Promise<number> {
    return (await told(this.#path, () => this.#handle.stat())).size;
  }

  close(): Promise<void> {
    this.#closing ??= this.#handle.close();
    return this.#closing;
  }
}

async function facts(path: string): Promise<FileFacts> {
  const found = await stat(path);
  return { sizeBytes: found.size, modifiedMs: found.mtimeMs, isFolder: found.isDirectory() };
}

/** Runs `call`; system errors that have a code of ours get it. */
async function told<T>(path: string, call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (cause) {
    const system = systemCode(cause) ?? '';
    if (FULL.has(system)) throw new CodedError('DISK_FULL', { detail: { path, system }, cause });
    if (FAILING.has(system))
      throw new CodedError('DISK_CORRUPT', {
        message: `disk fails: ${system}`,
        detail: { path, system },
        cause,
      });
    throw cause;
  }
}

async function unlessMissing<T>(missing: T, call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return missing;
    throw error;
  }
}
