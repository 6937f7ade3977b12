import { totalmem } from 'node:os';

/** Memory that this process may use, bytes: the machine's, or less where its cgroup has a limit. */
export function processMemoryBytes(): number {
  const limit = process.constrainedMemory();
  return limit > 0 ? Math.min(limit, totalmem()) : totalmem();
}

/** One cache of a member takes at most this share of the memory that it may use. */
const MOST_SHARE = 1 / 8;

/** So many bytes for something that is kept or held in memory, fewer where this process may use little (a small cgroup). */
export function withinMemory(bytes: number, memoryBytes = processMemoryBytes()): number {
  return Math.min(bytes, Math.floor(memoryBytes * MOST_SHARE));
}
