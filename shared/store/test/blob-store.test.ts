import { mkdirSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { diskFiles } from '../src/disk-files.ts';
import { blobStoreContract } from './contract.ts';
import { CrashFiles } from './crash-files.ts';

t.test('on disk', async (t) => {
  blobStoreContract(t, async (t) => {
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
  });
});

t.test('on the crash file system', async (t) => {
  blobStoreContract(t, async () => {
    const files = new CrashFiles('/d');
    return {
      files,
      dir: '/d',
      async damage(path, at) {
        files.peek(path)[at]! ^= 0xff;
      },
    };
  });
});
