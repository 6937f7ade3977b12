import { digestOf } from '@sepia/base/digest';
import { Metainfo } from '@sepia/metainfo/metainfo';
import { PIECE_BYTES, pieceHash } from '@sepia/metainfo/tree';
import { bytesOf } from '@sepia/test-support/seeded';
import { until } from '@sepia/test-support/until';
import t, { type Test } from 'tap';
import { CACHED, checksOf, pieceOf, readAll, type StoreGround, writePieces } from '../contract.ts';
import { inMemory, onDisk } from '../grounds.ts';

const MIB = PIECE_BYTES;

t.test('on disk', async (t) => trustContract(t, onDisk));
t.test('on the crash file system', async (t) => trustContract(t, inMemory));

function trustContract(t: Test, makeGround: (t: Test) => Promise<StoreGround>): void {
  const check = checksOf(t, makeGround);

  check(
    'a tree that the cluster vouches for needs no whole digest, until a new attempt',
    async (t, _, open) => {
      const store = await open();
      const bytes = bytesOf(2 * MIB + 7, 14);
      const digest = digestOf(bytes);
      const final = Metainfo.final(
        digest,
        bytes.length,
        Buffer.concat([0, 1, 2].map((index) => pieceHash(pieceOf(bytes, index)))),
      );
      const vouched = await store.openPartial(digest, bytes.length, { metainfo: final });
      vouched.trustTree();
      await writePieces(vouched, bytes, [0, 2, 1]);
      t.equal(vouched.prefixBytes, 0, 'nothing was hashed');
      await vouched.commit(CACHED);
      await vouched.release();
      t.ok(Buffer.from(bytes).equals((await readAll(store, digest))!));

      const other = digestOf(bytesOf(5, 15));
      const open2 = await store.openPartial(other, bytes.length, { attempt: '1'.repeat(32) });
      open2.trustTree();
      await writePieces(open2, bytes, [0, 1, 2]);
      t.equal(await open2.verifyWhole(), false, 'an open tree is never trusted');
      await open2.replaceMetainfo(
        Metainfo.final(
          other,
          bytes.length,
          Buffer.concat([0, 1, 2].map((index) => pieceHash(pieceOf(bytes, index)))),
        ),
      );
      open2.trustTree();
      await writePieces(open2, bytes, [0, 1, 2]);
      t.ok(await open2.verifyWhole());
      await open2.replaceMetainfo(
        Metainfo.final(
          other,
          bytes.length,
          Buffer.concat([0, 1, 2].map((index) => pieceHash(pieceOf(bytes, index)))),
        ),
      );
      await writePieces(open2, bytes, [0, 1, 2]);
      t.equal(await open2.verifyWhole(), false, 'trust ends with the attempt');
      const false_ = Metainfo.final(other, bytes.length, Buffer.alloc(3 * 32, 7));
      t.equal(await open2.learn(false_), 'replaced', 'two final ones differ');
      const again = Metainfo.final(other, bytes.length, final.layer());
      t.equal(await open2.learn(again), 'replaced');
      open2.trustTree();
      await writePieces(open2, bytes, [0, 1, 2]);
      t.equal(await open2.verifyWhole(), false, 'nobody is believed after words that differ');
      await open2.release();
      await store.close();
    },
  );

  check('metainfo is told without opening the blob, and counts as a use of it', async (t, _, open) => {
    const nowMs = 2e12;
    const store = await open({ accessGrainMs: 0 }, () => nowMs);
    const bytes = bytesOf(PIECE_BYTES + 9, 13);
    const digest = digestOf(bytes);
    t.equal(await store.tell(digest), undefined);
    await store.putBytes(digest, bytes, CACHED);
    const told = await store.tell(digest);
    await until(async () => {
      for await (const { accessedMs } of store.list()) return accessedMs === nowMs;
      return false;
    }, 'the use is noted');
    const handle = (await store.open(digest))!;
    t.equal(told?.metainfo.etag, handle.metainfo().etag);
    t.same(told?.attrs, handle.attrs);
    await handle.close();
    await store.close();
  });
}
