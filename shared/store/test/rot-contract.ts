import { join } from 'node:path';
import { digestOf } from '@sepia/base/digest';
import { PIECE_BYTES, pieceHash, pieceLeaves } from '@sepia/metainfo/tree';
import { bytesOf } from '@sepia/test-support/seeded';
import type { Test } from 'tap';
import {
  blobPath,
  CACHED,
  checksOf,
  PUSHED,
  pieceOf,
  readAll,
  type StoreGround,
  writePieces,
} from './contract.ts';

const MIB = PIECE_BYTES;

/** What every blob store does about damage on disk, on every file system. */
export function rotContract(t: Test, makeGround: (t: Test) => Promise<StoreGround>): void {
  const check = checksOf(t, makeGround);

  check(
    'leaf hashes fold to the piece hash, whoever made them and whatever became of their file',
    async (t, ground, open) => {
      const bytes = bytesOf(2 * MIB + 100_000, 21);
      const digest = digestOf(bytes);
      const want = [0, 1, 2].map((index) => pieceLeaves(pieceOf(bytes, index)));
      let store = await open();
      const partial = await store.openPartial(digest, bytes.length);
      await writePieces(partial, bytes, [2, 0]);
      t.same(await partial.leaves(0), want[0], 'of a partial, made from its piece');
      partial.metainfo.addHash(1, pieceHash(pieceOf(bytes, 1)));
      await partial.writePiece(1, pieceOf(bytes, 1), want[1]);
      t.same(await partial.leaves(1), want[1], 'as the writer told');
      await partial.commit(CACHED);
      await partial.release();
      const path = blobPath(ground.dir, digest, 'leaves');
      const all = async (): Promise<Uint8Array[]> => {
        await using handle = (await store.open(digest))!;
        return [await handle.leaves(0), await handle.leaves(1), await handle.leaves(2)];
      };
      t.same(await all(), want, 'of the blob');
      await store.close();
      await ground.damage(path, 2048 + 5);
      store = await open();
      t.same(await all(), want, 'of a damaged file');
      await store.close();
      await ground.files.unlink(path);
      store = await open();
      t.same(await all(), want, 'of a lost file');
      t.not(await ground.files.stat(path), undefined, 'and it is made again');
      await store.delete(digest);
      t.equal(await ground.files.stat(path), undefined, 'gone with the blob');
      await store.putBytes(digest, bytes, PUSHED);
      t.same(await all(), want, 'of a blob that came in one go');
      const upload = await store.createUpload('one');
      for (let at = 0; at < bytes.length; at += 300_000)
        await upload.append(bytes.subarray(at, at + 300_000));
      await store.delete(digest);
      await upload.commit(digest, PUSHED);
      t.same(await all(), want, 'of an upload');
      t.same(await ground.files.list(join(ground.dir, 'uploads')), []);
      await store.close();
    },
  );

  check('leaf hashes without their blob are removed behind the start', async (t, ground, open) => {
    const bytes = bytesOf(MIB, 22);
    const digest = digestOf(bytes);
    let store = await open();
    await store.putBytes(digest, bytes, PUSHED);
    await using handle = (await store.open(digest))!;
    await handle.leaves(0);
    await handle.close();
    await store.close();
    await ground.files.unlink(blobPath(ground.dir, digest));
    store = await open();
    await store.reconcile();
    const path = blobPath(ground.dir, digest, 'leaves');
    t.equal(await ground.files.stat(path), undefined);
    await store.close();
  });

  check('rot is found whenever it is looked for, and mended in its place', async (t, ground, open) => {
    const bytes = bytesOf(3 * MIB, 9);
    const digest = digestOf(bytes);
    const path = blobPath(ground.dir, digest);
    const store = await open();
    await store.putBytes(digest, bytes, PUSHED);
    const handle = (await store.open(digest))!;
    await handle.readPieceVerified(1);
    await ground.damage(path, MIB + 3);
    await t.rejects(
      handle.readPieceVerified(1),
      { code: 'DISK_CORRUPT', detail: { piece: 1 } },
      'after a good read',
    );
    await t.rejects(handle.leaves(1), { code: 'DISK_CORRUPT', detail: { piece: 1 } });
    t.equal((await handle.readPieceVerified(2)).length, MIB);
    t.ok(await store.has(digest), 'it stays where it is');
    await t.rejects(store.mendPiece(digest, 1, pieceOf(bytes, 2)), { code: 'PIECE_BAD' });
    t.equal(await store.mendPiece(digest, 1, pieceOf(bytes, 1)), true);
    t.ok(Buffer.from(await handle.readPieceVerified(1)).equals(pieceOf(bytes, 1)), 'open readers see it');
    await handle.close();
    t.ok(Buffer.from(bytes).equals((await readAll(store, digest))!));
    t.match((await store.stat(digest))?.attrs, PUSHED);
    t.equal(await store.mendPiece(digestOf(bytesOf(5, 1)), 0, bytes), false);
    await store.close();
  });
}
