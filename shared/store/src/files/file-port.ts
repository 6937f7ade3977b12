import { ignoreFailure } from '@sepia/base/failure';

/** How a file is opened: `read` an existing one, `update` an existing one, `create` a new one (it must not exist). */
export type OpenMode = 'read' | 'update' | 'create';

/** What lies at a path, without opening it. */
export interface FileFacts {
  readonly sizeBytes: number;
  readonly modifiedMs: number;
  /** What else lies at the place of a file, a link, a pipe or a device, is never opened, nor followed. A link to a folder is that folder. */
  readonly kind: 'file' | 'folder' | 'other';
}

/** An open file. Reads and writes name their place; they may overlap in time. */
export interface OpenFile {
  /** Fills `into` from byte `at`; returns how many bytes were there (fewer only at the end of the file). */
  read(into: Uint8Array, at: number): Promise<number>;
  /** Writes all of `bytes`. `bytes` must not change before it resolves. @throws `DISK_FULL` */
  write(bytes: Uint8Array, at: number): Promise<void>;
  truncate(sizeBytes: number): Promise<void>;
  /** Bytes and size of this file survive a power loss; its name does not: see {@link FilePort.syncFolder}. */
  sync(): Promise<void>;
  sizeBytes(): Promise<number>;
  /** Idempotent. */
  close(): Promise<void>;
}

/**
 * All file access of the store goes through here, so that a crash file system can stand under it in tests.
 * A missing path rejects with an error whose `code` is `ENOENT`, as Node's do, and so does one where no file lies. A full disk
 * is `DISK_FULL`, a failing one `DISK_CORRUPT`.
 */
export interface FilePort {
  open(path: string, mode: OpenMode): Promise<OpenFile>;
  /** Atomic; replaces `to`; a folder that lies there is moved aside first, and `onAside` is told where to. Survives a power loss only after {@link FilePort.syncFolder} of the folder of `to`. */
  rename(from: string, to: string, onAside?: (path: string) => void): Promise<void>;
  /** A missing file is no error. A folder that lies there goes if it is empty, else it stays. */
  unlink(path: string): Promise<void>;
  /** Names in a folder, in no order; empty if there is no such folder. */
  list(folder: string): Promise<string[]>;
  /** Undefined if nothing is there. */
  stat(path: string): Promise<FileFacts | undefined>;
  /** Makes one folder; its parent must exist. An existing folder is no error. */
  makeFolder(path: string): Promise<void>;
  /** Names made, removed and renamed in this folder survive a power loss. */
  syncFolder(path: string): Promise<void>;
  /** Sets the time of last change (coarse access time of blobs). A missing file is no error. */
  touch(path: string, atMs: number): Promise<void>;
}

/** The whole of a small file, or undefined if there is none. */
export async function readWhole(files: FilePort, path: string): Promise<Uint8Array | undefined> {
  const facts = await files.stat(path);
  if (facts?.kind !== 'file') return undefined;
  const file = await openExisting(files, path);
  if (file === undefined) return undefined;
  try {
    const bytes = Buffer.alloc(await file.sizeBytes());
    return bytes.subarray(0, await file.read(bytes, 0));
  } finally {
    await file.close();
  }
}

/** Opens for reading, or undefined if there is no such file. */
export async function openExisting(
  files: FilePort,
  path: string,
  mode: 'read' | 'update' = 'read',
): Promise<OpenFile | undefined> {
  try {
    return await files.open(path, mode);
  } catch (error) {
    if ((error as { code?: unknown })?.code === 'ENOENT') return undefined;
    throw error;
  }
}

/** Writes a new file at `temporary` and renames it to `path`; with `durable` its bytes are synced first (not the folder). */
export async function replaceWhole(
  files: FilePort,
  target: { readonly path: string; readonly temporary: string; readonly durable: boolean },
  bytes: Uint8Array,
): Promise<void> {
  const file = await files.open(target.temporary, 'create');
  try {
    try {
      await file.write(bytes, 0);
      if (target.durable) await file.sync();
    } finally {
      await file.close();
    }
    await files.rename(target.temporary, target.path);
  } catch (error) {
    await files.unlink(target.temporary).catch(ignoreFailure);
    throw error;
  }
}
