import { lstat, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { systemCode } from '@sepia/base/errors';
import type { Usage } from './core/table.ts';

/** What a tree takes on disk, each inode once; what goes away meanwhile is not counted. */
export async function diskUsage(root: string): Promise<Usage> {
  const seen = new Set<number>();
  let sizeBytes = 0;
  const open = [root];
  for (let path = open.pop(); path !== undefined; path = open.pop()) {
    try {
      const facts = await lstat(path);
      if (seen.has(facts.ino)) continue;
      seen.add(facts.ino);
      sizeBytes += facts.blocks * 512;
      if (facts.isDirectory()) for (const name of await readdir(path)) open.push(join(path, name));
    } catch (error) {
      if (systemCode(error) !== 'ENOENT') throw error;
    }
  }
  return { sizeBytes, inodes: seen.size };
}
