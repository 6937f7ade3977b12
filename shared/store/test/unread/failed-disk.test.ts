import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import { Metainfo } from '@sepia/metainfo/metainfo';
import { PIECE_BYTES, pieceHash } from '@sepia/metainfo/tree';
import { bytesOf } from '@sepia/test-support/seeded';
import t, { type Test } from 'tap';
import { BlobStore } from '../../src/blob-store.ts';
import { diskFiles } from '../../src/files/disk-files.ts';
import type { FilePort, OpenFile } from '../../src/files/file-port.ts';

/** A store on a disk that takes no names away once it fails, and the paths of files that are open. */
async function failing(t: Test) {
  const dir = join(t.testdir(), 'v1');
  mkdirSync(dir);
  const open = new Map<OpenFile, string>();
  const disk = { fails: false };
  const files: FilePort = {
    ...diskFiles,
    open: async (path, mode) => {
      const file = await diskFiles.open(path, mode);
      const noted: OpenFile = {
        read: (into, at) => file.read(into, at),
        write: (bytes, at) => file.write(bytes, at),
        truncate: (sizeBytes) => file.truncate(sizeBytes),
        sync: () => file.sync(),
        sizeBytes: () => file.sizeBytes(),
        close: async () => {
          open.delete(noted);
          await file.close();
        },
      };
      open.set(noted, path);
      return noted;
    },
    unlink: async (path) => {
      if (disk.fails) throw new CodedError('DISK_FAILED', { detail: { path, system: 'EROFS' } });
      await diskFiles.unlink(path);
    },
  };
  const deps = { files, dir, log: silentLogger(), nowMs: Date.now };
  return { store: await BlobStore.open(deps, { durable: false }), open, disk };
}

t.test('an upload that a failing disk does not take away is closed', async (t) => {
  const { store, open, disk } = await failing(t);
  const upload = await store.createUpload('o1.upload');
  // So many that its leaf hashes have a file, too.
  await upload.append(bytesOf(33 * PIECE_BYTES, 1));
  t.equal(open.size, 2);
  disk.fails = true;
  await t.rejects(upload.drop(), { code: 'DISK_FAILED' });
  t.same([...open.values()], []);
  await store.close();
});

t.test('a store whose disk fails at its end closes all that it has open, and says so', async (t) => {
  const { store, open, disk } = await failing(t);
  for (const name of ['o1.one', 'o1.two']) {
    const upload = await store.createUpload(name);
    await upload.append(bytesOf(PIECE_BYTES, 2));
  }
  const bytes = bytesOf(2 * PIECE_BYTES, 3);
  const partial = await store.openPartial(digestOf(bytes), bytes.length, {
    metainfo: Metainfo.final(
      digestOf(bytes),
      bytes.length,
      Buffer.concat(
        [0, 1].map((index) => pieceHash(bytes.subarray(index * PIECE_BYTES, (index + 1) * PIECE_BYTES))),
      ),
    ),
  });
  await partial.writePiece(0, bytes.subarray(0, PIECE_BYTES));
  t.ok(open.size >= 3);
  disk.fails = true;
  await t.rejects(store.close(), { code: 'DISK_FAILED' });
  t.same([...open.values()], []);
});
