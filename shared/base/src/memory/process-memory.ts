import { totalmem } from 'node:os';

/** Memory that this process may use, bytes: the machine's, or less where its cgroup has a limit. */
export function processMemoryBytes(): number {
  const limit = process.constrainedMemory();
  return limit > 0 ? Math.min(limit, totalmem()) : totalmem();
}
