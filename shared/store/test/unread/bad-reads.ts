import { CodedError } from '@sepia/base/errors';
import type { FilePort, OpenFile } from '../../src/files/file-port.ts';

/** Files of which the disk does not read what `isBad` names: `at` is the byte from which is read, undefined for the file or folder itself. */
export function badReads(files: FilePort, isBad: (path: string, at?: number) => boolean): FilePort {
  const unlessBad = async <T>(path: string, read: () => Promise<T>, at?: number): Promise<T> => {
    if (isBad(path, at)) throw new CodedError('DISK_CORRUPT', { detail: { path, system: 'EIO' } });
    return await read();
  };
  const open = async (path: string, mode: Parameters<FilePort['open']>[1]): Promise<OpenFile> => {
    const file = await files.open(path, mode);
    return {
      read: async (into, at) => await unlessBad(path, async () => await file.read(into, at), at),
      write: async (bytes, at) => await file.write(bytes, at),
      truncate: async (sizeBytes) => await file.truncate(sizeBytes),
      sync: async () => await file.sync(),
      sizeBytes: async () => await file.sizeBytes(),
      close: async () => await file.close(),
    };
  };
  return {
    open: async (path, mode) => await unlessBad(path, async () => await open(path, mode)),
    rename: async (from, to, onAside) => await files.rename(from, to, onAside),
    unlink: async (path) => await files.unlink(path),
    list: async (folder) => await unlessBad(folder, async () => await files.list(folder)),
    stat: async (path) => await unlessBad(path, async () => await files.stat(path)),
    makeFolder: async (path) => await files.makeFolder(path),
    syncFolder: async (path) => await files.syncFolder(path),
    touch: async (path, atMs) => await files.touch(path, atMs),
  };
}
