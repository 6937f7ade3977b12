import { mkdirSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import type { Test } from 'tap';
import { diskFiles } from '../src/files/disk-files.ts';
import type { StoreGround } from './contract.ts';
import { CrashFiles } from './crash-files.ts';

/** A folder of the real file system. */
export async function onDisk(t: Test): Promise<StoreGround> {
  const dir = join(t.testdir(), 'v1');
  mkdirSync(dir);
  const damage = async (path: string, at: number): Promise<void> => {
    const file = await open(path, 'r+');
    const byte = Buffer.alloc(1);
    await file.read(byte, 0, 1, at);
    await file.write(Buffer.of(byte[0]! ^ 0xff), 0, 1, at);
    await file.close();
  };
  return { files: diskFiles, dir, damage };
}

/** The file system in memory that can crash. */
export async function inMemory(): Promise<StoreGround> {
  const files = new CrashFiles('/d');
  return {
    files,
    dir: '/d',
    async damage(path, at) {
      files.peek(path)[at]! ^= 0xff;
    },
  };
}
