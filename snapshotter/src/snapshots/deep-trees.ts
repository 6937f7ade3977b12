import { randomUUID } from 'node:crypto';
import { readdir, rename } from 'node:fs/promises';

/** A system takes paths of 4,095 bytes; a name has 255 at most. */
const DEEP_BYTES = 2048;
const SLASH = Buffer.from('/');

/** A path below another, of names that need be no text. */
export function pathIn(folder: Buffer, name: Buffer): Buffer {
  return Buffer.concat([folder, SLASH, name]);
}

/**
 * Moves folders that lie deep in a tree to its top: programs go down step by step, and leave trees deeper than any path can
 * name, which nothing that goes by paths removes.
 */
export async function flatten(root: string): Promise<void> {
  const top = Buffer.from(root);
  const open: Buffer[] = [top];
  for (let path = open.pop(); path !== undefined; path = open.pop())
    for (const entry of await readdir(path, { encoding: 'buffer', withFileTypes: true })) {
      if (!entry.isDirectory()) continue;
      let folder = pathIn(path, entry.name);
      if (folder.length > DEEP_BYTES) {
        const moved = pathIn(top, Buffer.from(randomUUID()));
        await rename(folder, moved);
        folder = moved;
      }
      open.push(folder);
    }
}
