import { lstat, readdir } from 'node:fs/promises';
import { systemCode } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import type { Usage } from './core/table.ts';
import { pathIn } from './deep-trees.ts';

/** What is not there any more, or lies deeper than a path can name. */
const NOT_COUNTED = new Set(['ENOENT', 'ENOTDIR', 'ENAMETOOLONG']);

/** What a tree takes on disk, each inode once, whatever bytes its name has; what goes away meanwhile is not counted. */
export async function diskUsage(root: string): Promise<Usage> {
  const seen = new Set<number>();
  let sizeBytes = 0;
  const open: Buffer[] = [Buffer.from(root)];
  for (let path = open.pop(); path !== undefined; path = open.pop()) {
    try {
      const facts = await lstat(path);
      if (seen.has(facts.ino)) continue;
      seen.add(facts.ino);
      sizeBytes += facts.blocks * 512;
      if (!facts.isDirectory()) continue;
      for (const name of await readdir(path, { encoding: 'buffer' })) open.push(pathIn(path, name));
    } catch (error) {
      throwIfBug(error);
      if (!NOT_COUNTED.has(systemCode(error) ?? '')) throw error;
    }
  }
  return { sizeBytes, inodes: seen.size };
}
