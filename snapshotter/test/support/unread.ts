import { open } from 'node:fs/promises';
import type { Test } from 'tap';

/** Until the test ends the disk does not read the file that lies at `path` now; what takes its place it does. */
export async function unread(t: Test, path: string): Promise<void> {
  const handle = await open(path);
  const { ino } = await handle.stat();
  const files = Object.getPrototypeOf(handle) as { read: (...given: unknown[]) => Promise<object> };
  const { read } = files;
  files.read = async function (this: typeof handle, ...given) {
    if ((await this.stat()).ino !== ino) return await read.apply(this, given);
    throw Object.assign(new Error('EIO: i/o error, read'), { code: 'EIO' });
  };
  t.teardown(async () => {
    Object.assign(files, { read });
    // Until here its number is no other file's.
    await handle.close();
  });
}
