import fs, { readlinkSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import type { Test } from 'tap';

/** `note` hears what was brought to the disk, by `fsyncSync`, until the test ends: the path of a file or a folder. */
export function onSync(t: Test, note: (path: string) => void): void {
  const { fsyncSync } = fs;
  const take = (own: typeof fsyncSync): void => {
    Object.assign(fs, { fsyncSync: own });
    syncBuiltinESMExports();
  };
  take((fd) => {
    fsyncSync(fd);
    note(readlinkSync(`/proc/self/fd/${fd}`));
  });
  t.teardown(() => take(fsyncSync));
}
