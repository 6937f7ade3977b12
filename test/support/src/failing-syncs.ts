import { open } from 'node:fs/promises';
import type { Test } from 'tap';

/** From now on each sync of a file's bytes in this process fails as that of a bad disk, until `end` or the test's. */
export async function failingSyncs(t: Test): Promise<{ end: () => void }> {
  const handle = await open(import.meta.filename);
  const files = Object.getPrototypeOf(handle) as { datasync: () => Promise<void> };
  await handle.close();
  const { datasync } = files;
  const end = (): void => void Object.assign(files, { datasync });
  t.teardown(end);
  files.datasync = async () => {
    throw Object.assign(new Error('EIO: i/o error, fdatasync'), { code: 'EIO', syscall: 'fdatasync' });
  };
  return { end };
}
