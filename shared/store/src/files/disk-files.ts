import { closeSync, constants, fsync, openSync } from 'node:fs';
import {
  type FileHandle,
  lstat,
  mkdir,
  open,
  readdir,
  rename,
  rmdir,
  stat,
  unlink,
  utimes,
} from 'node:fs/promises';
import { promisify } from 'node:util';
import { CodedError, isCoded, isOutOfRoom, systemCode } from '@sepia/base/errors';
import { ended, throwIfBug } from '@sepia/base/failure';
import { asideOf } from './asides.ts';
import type { FileFacts, FilePort, OpenFile, OpenMode } from './file-port.ts';

const { O_CREAT, O_EXCL, O_NOFOLLOW, O_NONBLOCK, O_RDONLY, O_RDWR } = constants;
/** A pipe in the place of a file would hold a thread until somebody writes to it, and a link would lead out of the folder. */
const ONLY_FILES = O_NOFOLLOW | O_NONBLOCK;
const FLAGS: Readonly<Record<OpenMode, number>> = {
  read: O_RDONLY | ONLY_FILES,
  update: O_RDWR | ONLY_FILES,
  create: O_RDWR | O_CREAT | O_EXCL,
};
/** Of what is there and is no file: a link, a folder, a socket, a device without a driver. */
const NO_FILE = new Set(['ELOOP', 'EISDIR', 'ENXIO', 'ENODEV']);
/** Of a read, from a folder or from a pipe to which nobody writes: there are no bytes. */
const NO_BYTES = new Set(['EISDIR', 'EAGAIN', 'ESPIPE']);
/** Of a name where a folder lies. */
const FOLDER_THERE = new Set(['EISDIR', 'ENOTEMPTY', 'EEXIST', 'EPERM']);
const FAILING = new Set(['EIO', 'EROFS', 'EUCLEAN']);

const syncOf = promisify(fsync);

/** The file system of this machine. Failures carry codes: `DISK_FULL`, `DISK_CORRUPT` and the like, as {@link FilePort} says. */
export const diskFiles: FilePort = {
  async open(path: string, mode: OpenMode): Promise<OpenFile> {
    const how = mode === 'read' ? told : toldOfWrite;
    return new DiskFile(await how(path, () => openFile(path, mode)), path);
  },
  rename: (from, to, onAside) => toldOfWrite(to, () => renameOver(from, to, onAside)),
  unlink: (path) => unlessMissing(undefined, () => toldOfWrite(path, () => unlinkFile(path))),
  list: (folder) => unlessMissing<string[]>([], () => told(folder, () => readdir(folder))),
  stat: (path) => unlessMissing<FileFacts | undefined>(undefined, () => told(path, () => facts(path))),
  async makeFolder(path: string): Promise<void> {
    try {
      await toldOfWrite(path, () => mkdir(path, { mode: 0o750 }));
    } catch (error) {
      if (systemCode(error) !== 'EEXIST') throw error;
    }
  },
  /** Its names were just changed or read: to open it waits for no disk, and costs less than to hand that to the pool. */
  async syncFolder(path: string): Promise<void> {
    await toldOfWrite(path, async () => {
      const folder = openSync(path, 'r');
      try {
        await syncOf(folder);
      } finally {
        closeSync(folder);
      }
    });
  },
  touch: (path, atMs) =>
    unlessMissing(undefined, () => told(path, () => utimes(path, atMs / 1000, atMs / 1000))),
};

/**
 * The files of a mounted file system that is not ours, as a backend's: links in it are followed, and whoever calls bounds how
 * long a call may hang.
 */
export const mountedFiles: FilePort = {
  ...diskFiles,
  async open(path: string, mode: OpenMode): Promise<OpenFile> {
    return new DiskFile(await told(path, () => open(path, FLAGS[mode] & ~ONLY_FILES, 0o640)), path);
  },
  stat: (path) =>
    unlessMissing<FileFacts | undefined>(undefined, () => told(path, () => followedFacts(path))),
  async syncFolder(path: string): Promise<void> {
    const folder = await told(path, () => open(path, 'r'));
    try {
      await told(path, () => folder.sync());
    } finally {
      await folder.close();
    }
  },
};

/**
 * As the port opens a file, for who needs its descriptor. @throws as the port: `ENOENT` also where no file lies
 */
export async function openHandle(path: string, mode: 'read' | 'update'): Promise<FileHandle> {
  const handle = await told(path, () => openFile(path, mode));
  if (mode === 'update' || (await isFileElseClosed(handle))) return handle;
  throw noFile(path);
}

/** A new, empty file for who needs its descriptor, in the place of whatever lies there: a folder is moved aside. */
export async function newHandle(path: string): Promise<FileHandle> {
  const temporary = `${path}.new`;
  // One that was killed left its own.
  await diskFiles.unlink(temporary);
  const handle = await told(path, () => openFile(temporary, 'create'));
  try {
    await diskFiles.rename(temporary, path);
    return handle;
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/** Reads a part of a file through a descriptor, as much as the system gives at once. @returns how many bytes: 0 at its end. @throws as the port */
export async function readPart(
  handle: FileHandle,
  path: string,
  into: Uint8Array,
  at: number,
): Promise<number> {
  return (await told(path, () => handle.read(into, 0, into.length, at))).bytesRead;
}

/** Writes all of `bytes` through a descriptor: the system may take a part, and say why only when it is given the rest. @throws as the port */
export async function writeAll(
  handle: FileHandle,
  path: string,
  bytes: Uint8Array,
  at: number,
): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await toldOfWrite(path, () =>
      handle.write(bytes, done, bytes.length - done, at + done),
    );
    done += bytesWritten;
  }
}

/** What was written through a descriptor is on disk. @throws as the port */
export async function syncHandle(handle: FileHandle, path: string): Promise<void> {
  await toldOfWrite(path, () => handle.datasync());
}

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
      ).catch((error: unknown) => {
        throwIfBug(error);
        if (!NO_BYTES.has(systemCode(error) ?? '')) throw error;
        return { bytesRead: 0 };
      });
      if (bytesRead === 0) break;
      done += bytesRead;
    }
    return done;
  }

  /** One after the other: the kernel has one lock per file for all who write, and threads spin while they wait for it. */
  write(bytes: Uint8Array, at: number): Promise<void> {
    const write = this.#writing.then(async () => await writeAll(this.#handle, this.#path, bytes, at));
    this.#writing = ended(write);
    return write;
  }

  truncate(sizeBytes: number): Promise<void> {
    return toldOfWrite(this.#path, () => this.#handle.truncate(sizeBytes));
  }

  sync(): Promise<void> {
    return syncHandle(this.#handle, this.#path);
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
  const own = await lstat(path);
  const isFolder = own.isDirectory() || (own.isSymbolicLink() && (await isFolderBehind(path)));
  const kind = isFolder ? 'folder' : own.isFile() ? 'file' : 'other';
  return { sizeBytes: own.size, modifiedMs: own.mtimeMs, kind };
}

async function followedFacts(path: string): Promise<FileFacts> {
  const found = await stat(path);
  const kind = found.isDirectory() ? 'folder' : found.isFile() ? 'file' : 'other';
  return { sizeBytes: found.size, modifiedMs: found.mtimeMs, kind };
}

async function isFolderBehind(link: string): Promise<boolean> {
  try {
    return (await stat(link)).isDirectory();
  } catch (error) {
    throwIfBug(error);
    // It leads nowhere, or to itself.
    return false;
  }
}

async function openFile(path: string, mode: OpenMode): Promise<FileHandle> {
  let handle: FileHandle;
  try {
    handle = await open(path, FLAGS[mode], 0o640);
  } catch (cause) {
    throwIfBug(cause);
    if (mode === 'create' || !NO_FILE.has(systemCode(cause) ?? '')) throw cause;
    throw noFile(path, cause);
  }
  // A pipe and a device open for writing; what is only read is looked at by who reads.
  if (mode !== 'update' || (await isFileElseClosed(handle))) return handle;
  throw noFile(path);
}

async function isFileElseClosed(handle: FileHandle): Promise<boolean> {
  let isFile = false;
  try {
    isFile = (await handle.stat()).isFile();
  } finally {
    if (!isFile) await handle.close();
  }
  return isFile;
}

function noFile(path: string, cause?: unknown): Error {
  return Object.assign(new Error(`no file lies at ${path}`, { cause }), { code: 'ENOENT' });
}

async function renameOver(from: string, to: string, onAside?: (path: string) => void): Promise<void> {
  try {
    await rename(from, to);
  } catch (error) {
    throwIfBug(error);
    if (!FOLDER_THERE.has(systemCode(error) ?? '') || !(await isOwnFolder(to))) throw error;
    // Somebody else's files are in it, maybe: they are not ours to remove.
    const aside = asideOf(to);
    await rename(to, aside);
    onAside?.(aside);
    await rename(from, to);
  }
}

async function unlinkFile(path: string): Promise<void> {
  try {
    await unlink(path);
  } catch (error) {
    throwIfBug(error);
    if (!FOLDER_THERE.has(systemCode(error) ?? '') || !(await isOwnFolder(path))) throw error;
    await rmdir(path).catch((cause: unknown) => {
      throwIfBug(cause);
      if (!FOLDER_THERE.has(systemCode(cause) ?? '')) throw cause;
    });
  }
}

async function isOwnFolder(path: string): Promise<boolean> {
  return (await lstat(path)).isDirectory();
}

/** Runs `call`; system errors that have a code of ours get it. */
async function told<T>(path: string, call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (cause) {
    const system = systemCode(cause) ?? '';
    if (isOutOfRoom(cause)) throw new CodedError('DISK_FULL', { detail: { path, system }, cause });
    if (FAILING.has(system))
      throw new CodedError('DISK_CORRUPT', {
        message: `disk fails: ${system}`,
        detail: { path, system },
        cause,
      });
    throw cause;
  }
}

/** As {@link told} of what changes the disk: one that is read-only or fails takes nothing, and what it holds may be well. */
async function toldOfWrite<T>(path: string, call: () => Promise<T>): Promise<T> {
  try {
    return await told(path, call);
  } catch (cause) {
    if (!isCoded(cause, 'DISK_CORRUPT')) throw cause;
    const { system } = cause.detail;
    throw new CodedError('DISK_FAILED', {
      message: `disk takes no writes: ${String(system)}`,
      detail: { path, system },
      cause,
    });
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
