import { digestOf } from '@sepia/base/digest';
import { silentLogger } from '@sepia/base/log';
import { PIECE_BYTES } from '@sepia/metainfo/tree';
import { bytesOf } from '@sepia/test-support/seeded';
import t from 'tap';
import { BlobStore } from '../../src/blob-store.ts';
import type { FilePort } from '../../src/files/file-port.ts';
import { blobPath, CACHED, readAll, writePieces } from '../contract.ts';
import { inMemory } from '../grounds.ts';
import { badReads } from './bad-reads.ts';

const BYTES = bytesOf(10_000, 1);
const DIGEST = digestOf(BYTES);
const BIG = bytesOf(3 * PIECE_BYTES + 7, 2);
const BIG_DIGEST = digestOf(BIG);

async function opened(
  ground: { readonly files: FilePort; readonly dir: string },
  options: { readonly durable: boolean; readonly bootId?: string },
): Promise<BlobStore> {
  return await BlobStore.open({ ...ground, log: silentLogger(), nowMs: () => 1e12 }, options);
}

for (const kind of ['blobs', 'meta'] as const) {
  t.test(
    `the disk does not read what lies in ${kind}: a cached blob is missing, and kept anew`,
    async (t) => {
      const { files, dir } = await inMemory();
      const first = await opened({ files, dir }, { durable: false });
      await first.putBytes(DIGEST, BYTES, CACHED);
      await first.close();
      const path = blobPath(dir, DIGEST, kind);
      let isBad = true;
      const failing = badReads(files, (one) => isBad && one === path);
      const store = await opened({ files: failing, dir }, { durable: false });
      t.equal(await store.open(DIGEST), undefined);
      t.equal(await store.stat(DIGEST), undefined);
      await store.reconcile();
      await store.putBytes(DIGEST, BYTES, CACHED);
      t.equal(store.usage(), BYTES.length, 'it is counted once');
      isBad = false;
      t.ok(Buffer.from(BYTES).equals((await readAll(store, DIGEST))!));
      await store.close();
    },
  );
}

t.test('what only this disk may have is never missing because it is not read', async (t) => {
  const { files, dir } = await inMemory();
  const first = await opened({ files, dir }, { durable: true });
  await first.putBytes(DIGEST, BYTES, CACHED);
  await first.close();
  const path = blobPath(dir, DIGEST);
  const store = await opened({ files: badReads(files, (one) => one === path), dir }, { durable: true });
  await t.rejects(store.open(DIGEST), { code: 'DISK_CORRUPT' });
  await t.rejects(store.stat(DIGEST), { code: 'DISK_CORRUPT' });
  await store.close();
});

t.test('of a partial the pieces count that the disk reads', async (t) => {
  const { files, dir } = await inMemory();
  const first = await opened({ files, dir }, { durable: false, bootId: 'b1' });
  const before = await first.openPartial(BIG_DIGEST, BIG.length);
  await writePieces(before, BIG, [0, 1, 2]);
  await before.release();
  await first.close();
  let isBad = (_path: string, at?: number): boolean => at === PIECE_BYTES;
  const failing = badReads(files, (path, at) => isBad(path, at));
  const store = await opened({ files: failing, dir }, { durable: false, bootId: 'b2' });
  const partial = await store.openPartial(BIG_DIGEST, BIG.length);
  t.same([...partial.have], [0, 2]);
  await partial.release();
  isBad = (path) => path.endsWith('.map');
  const anew = await store.openPartial(BIG_DIGEST, BIG.length);
  t.same([...anew.have], [], 'one whose map is not read starts over');
  await anew.release();
  await store.close();
});
