import { join } from 'node:path';
import { type Digest, digestOf } from '@sepia/base/digest';
import { isCoded } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import { Metainfo } from '@sepia/metainfo/metainfo';
import { PIECE_BYTES, pieceHash } from '@sepia/metainfo/tree';
import { bytesOf } from '@sepia/test-support/seeded';
import { until } from '@sepia/test-support/until';
import type { Test } from 'tap';
import { BlobStore, type BlobStoreOptions } from '../src/blob-store.ts';
import type { FilePort } from '../src/files/file-port.ts';
import type { PartialBlob } from '../src/partial-blob.ts';
import type { BlobAttrs } from '../src/sidecar.ts';

export const PUSHED: BlobAttrs = {
  class: 'pushed',
  provenance: [{ upstream: 'u', repository: 'a/b' }],
  writtenBack: false,
};
export const CACHED: BlobAttrs = { class: 'cached', provenance: [], writtenBack: false };
const MIB = PIECE_BYTES;

/** A file system under test and how to damage a file of it. */
export interface StoreGround {
  readonly files: FilePort;
  readonly dir: string;
  damage(path: string, at: number): Promise<void>;
}

type Open = (options?: Partial<BlobStoreOptions>, nowMs?: () => number) => Promise<BlobStore>;

export function blobPath(dir: string, digest: Digest, kind: 'blobs' | 'meta' | 'leaves' = 'blobs'): string {
  const [algorithm, hex] = digest.split(':') as [string, string];
  return join(dir, kind, algorithm, hex.slice(0, 2), hex);
}

export function pieceOf(bytes: Uint8Array, index: number): Uint8Array {
  return bytes.subarray(index * MIB, (index + 1) * MIB);
}

/** Writes pieces with their hashes, as one who fetches them does. */
export async function writePieces(
  partial: PartialBlob,
  bytes: Uint8Array,
  indexes: readonly number[],
): Promise<void> {
  for (const index of indexes) {
    partial.metainfo.addHash(index, pieceHash(pieceOf(bytes, index)));
    await partial.writePiece(index, pieceOf(bytes, index));
  }
}

export async function readAll(store: BlobStore, digest: Digest): Promise<Uint8Array | undefined> {
  const handle = await store.open(digest);
  try {
    return handle && (await handle.readAllVerified());
  } finally {
    await handle?.close();
  }
}

/** Access times are written behind the read: waits until this one is. */
async function accessNoted(store: BlobStore, digest: Digest, atMs: number): Promise<void> {
  for (;;) {
    for await (const blob of store.list()) if (blob.digest === digest && blob.accessedMs === atMs) return;
  }
}

type Check = (name: string, body: (t: Test, ground: StoreGround, open: Open) => Promise<void>) => void;

/** Runs each check twice: with a store that syncs, and with one that does not. */
export function checksOf(t: Test, makeGround: (t: Test) => Promise<StoreGround>): Check {
  return (name, body) => {
    for (const durable of [true, false]) {
      t.test(`${name} (${durable ? 'durable' : 'cache'})`, async (t) => {
        const ground = await makeGround(t);
        const open: Open = (options, nowMs = () => 1e12) =>
          BlobStore.open(
            { files: ground.files, dir: ground.dir, log: silentLogger(), nowMs },
            { durable, bootId: 'b1', mapDelayMs: 5, ...options },
          );
        await body(t, ground, open);
      });
    }
  };
}

/** What every blob store keeps, on every file system. */
export function blobStoreContract(t: Test, makeGround: (t: Test) => Promise<StoreGround>): void {
  const check = checksOf(t, makeGround);

  check('what was put is there, also after reopening', async (t, _, open) => {
    const store = await open();
    for (const size of [0, 1, 16 * 1024, MIB, MIB + 1]) {
      const bytes = bytesOf(size, size);
      for (const algorithm of ['sha256', 'sha512'] as const) {
        const digest = digestOf(bytes, algorithm);
        t.equal(await store.stat(digest), undefined);
        await store.putBytes(digest, bytes, PUSHED);
        t.match(await store.stat(digest), { sizeBytes: size, attrs: PUSHED });
      }
    }
    await store.close();
    const again = await open();
    const bytes = bytesOf(MIB + 1, MIB + 1);
    t.ok(Buffer.from(bytes).equals((await readAll(again, digestOf(bytes)))!));
    t.equal((await readAll(again, digestOf(bytesOf(0, 0), 'sha512')))?.length, 0);
    await again.reconcile();
    t.equal(again.usage(), 2 * (0 + 1 + 16 * 1024 + MIB + MIB + 1));
    let listed = 0;
    for await (const _blob of again.list()) listed += 1;
    t.equal(listed, 10);
    await again.close();
  });

  check('wrong bytes are refused and leave nothing', async (t, ground, open) => {
    const store = await open();
    const digest = digestOf(bytesOf(10, 1));
    await t.rejects(store.putBytes(digest, bytesOf(10, 2), PUSHED), { code: 'DIGEST_MISMATCH' });
    const upload = await store.createUpload('o1.x');
    await upload.append(bytesOf(10, 2));
    await t.rejects(upload.commit(digest, PUSHED), { code: 'DIGEST_MISMATCH' });
    await upload.drop();
    t.equal(await store.has(digest), false);
    t.same(await ground.files.list(join(ground.dir, 'uploads')), []);
    await store.close();
  });

  check('uploads append, seal, stream and commit', async (t, _, open) => {
    const store = await open();
    const bytes = bytesOf(2 * MIB + 77, 3);
    for (const algorithm of ['sha256', 'sha512'] as const) {
      const digest = digestOf(bytes, algorithm);
      const upload = await store.createUpload(`o1.${algorithm}`);
      await Promise.all([
        upload.append(bytes.subarray(0, 100)),
        upload.append(bytes.subarray(100, MIB)),
        upload.append(bytes.subarray(MIB)),
      ]);
      t.equal(upload.offset, bytes.length);
      const sealed = await upload.seal(digest);
      const parts: Uint8Array[] = [];
      for await (const part of sealed.stream(5)) parts.push(part);
      t.ok(Buffer.concat(parts).equals(bytes.subarray(5)));
      t.same(await sealed.read(MIB, 10), Buffer.from(bytes.subarray(MIB, MIB + 10)));
      await t.rejects(upload.append(bytes), { code: 'UPLOAD_UNKNOWN' });
      t.same(await upload.commit(digest, PUSHED), { sizeBytes: bytes.length, attrs: PUSHED });
      t.equal(store.upload(upload.id), undefined);
      t.ok(Buffer.from(bytes).equals((await readAll(store, digest))!));
    }
    await t.rejects(store.createUpload('../x'), { code: 'UPLOAD_INVALID' });
    await store.createUpload('o1.dup');
    await t.rejects(store.createUpload('o1.dup'), { code: 'UPLOAD_INVALID' });
    await store.close();
  });

  check('a partial takes pieces in any order and becomes a blob', async (t, _, open) => {
    const store = await open();
    const bytes = bytesOf(4 * MIB + 5, 4);
    const digest = digestOf(bytes);
    const [one, two] = await Promise.all([
      store.openPartial(digest, bytes.length),
      store.openPartial(digest, bytes.length),
    ]);
    t.equal(one, two, 'users of one digest share it');
    await t.rejects(store.openPartial(digest, 5), { code: 'SIZE_MISMATCH' });
    await writePieces(one, bytes, [0]);
    t.equal(one.prefixBytes, MIB);
    await writePieces(two, bytes, [3, 2, 4]);
    t.same(await one.readPiece(3, 10, 20), Buffer.from(bytes.subarray(3 * MIB + 10, 3 * MIB + 30)));
    t.equal(await one.verifyWhole(), false);
    await writePieces(one, bytes, [1]);
    t.equal(await store.has(digest), false, 'no half blob is visible');
    await Promise.all([one.commit(CACHED), two.commit(CACHED)]);
    t.equal(one.metainfo.state, 'final');
    t.ok(await store.has(digest));
    t.same(await one.readPiece(4), Buffer.from(pieceOf(bytes, 4)), 'pieces still read');
    await one.release();
    await two.release();
    const handle = (await store.open(digest))!;
    t.equal(handle.metainfo().state, 'final');
    t.ok(Buffer.from(await handle.readPieceVerified(3)).equals(pieceOf(bytes, 3)));
    await handle.close();
    const empty = await store.openPartial(digestOf(new Uint8Array(0)), 0);
    await empty.commit(CACHED);
    await empty.release();
    t.match(await store.stat(digestOf(new Uint8Array(0))), { sizeBytes: 0 });
    await store.close();
  });

  check('a partial with a wrong whole digest does not become a blob, and starts over', async (t, _, open) => {
    const store = await open();
    const bytes = bytesOf(2 * MIB, 5);
    const lie = bytesOf(2 * MIB, 6);
    const digest = digestOf(bytes);
    const partial = await store.openPartial(digest, bytes.length, { attempt: '1'.repeat(32) });
    await writePieces(partial, lie, [0, 1]);
    await t.rejects(partial.commit(CACHED), { code: 'DIGEST_MISMATCH' });
    t.equal(await partial.learn(Metainfo.open(digest, bytes.length, '2'.repeat(32))), 'replaced');
    t.equal(partial.have.count, 0);
    await writePieces(partial, bytes, [1, 0]);
    await partial.commit(CACHED);
    await partial.release();
    t.ok(Buffer.from(bytes).equals((await readAll(store, digest))!));
    await store.close();
  });

  check('partials survive a restart', async (t, ground, open) => {
    const bytes = bytesOf(3 * MIB, 7);
    const digest = digestOf(bytes);
    let store = await open();
    let partial = await store.openPartial(digest, bytes.length);
    const { attempt } = partial.metainfo;
    await writePieces(partial, bytes, [0, 2]);
    await partial.release();
    await store.close();
    store = await open();
    partial = await store.openPartial(digest, bytes.length);
    t.same([...partial.have], [0, 2], 'same boot: believed');
    t.equal(partial.metainfo.attempt, attempt);
    await store.close();
    const data = (await ground.files.list(join(ground.dir, 'partial'))).find(
      (name) => !name.endsWith('.map'),
    )!;
    await ground.damage(join(ground.dir, 'partial', data), 2 * MIB + 9);
    store = await open({ bootId: 'b2' });
    partial = await store.openPartial(digest, bytes.length);
    t.same([...partial.have], [0, 2], 'a synced map is believed in another boot');
    await partial.release();
    store = await open({ bootId: 'b3' });
    partial = await store.openPartial(digest, bytes.length);
    t.same([...partial.have], [0], 'an unsynced one is checked in another boot');
    await writePieces(partial, bytes, [1, 2]);
    await partial.commit(CACHED);
    await partial.release();
    t.ok(Buffer.from(bytes).equals((await readAll(store, digest))!));
    t.same(await ground.files.list(join(ground.dir, 'partial')), []);
    await store.close();
  });

  check('a dropped partial is gone for all', async (t, ground, open) => {
    const store = await open();
    const bytes = bytesOf(MIB, 8);
    const partial = await store.openPartial(digestOf(bytes), MIB);
    await partial.drop();
    t.same(await ground.files.list(join(ground.dir, 'partial')), []);
    partial.metainfo.addHash(0, pieceHash(bytes));
    await t.rejects(partial.writePiece(0, bytes), { code: 'STALE_ATTEMPT' });
    const next = await store.openPartial(digestOf(bytes), MIB);
    t.not(next, partial);
    await partial.release();
    await next.release();
    await store.close();
  });

  check('a damaged sidecar is made again, a blob that does not match is dropped', async (t, ground, open) => {
    const bytes = bytesOf(MIB + 9, 10);
    const digest = digestOf(bytes);
    let store = await open();
    await store.putBytes(digest, bytes, PUSHED);
    await store.close();
    await ground.damage(blobPath(ground.dir, digest, 'meta'), 20);
    store = await open();
    t.match(await store.stat(digest), { sizeBytes: MIB + 9 });
    await store.close();
    await ground.files.unlink(blobPath(ground.dir, digest, 'meta'));
    await ground.damage(blobPath(ground.dir, digest), 4);
    store = await open();
    t.equal(await store.stat(digest), undefined);
    t.equal(await ground.files.stat(blobPath(ground.dir, digest)), undefined);
    await store.close();
  });

  check('a wrong size is a miss', async (t, ground, open) => {
    const store = await open();
    const bytes = bytesOf(100, 11);
    await store.putBytes(digestOf(bytes), bytes, PUSHED);
    const file = await ground.files.open(blobPath(ground.dir, digestOf(bytes)), 'update');
    await file.truncate(50);
    await file.close();
    t.equal(await store.has(digestOf(bytes)), false);
    await store.putBytes(digestOf(bytes), bytes, PUSHED);
    t.equal(await store.has(digestOf(bytes)), true);
    await store.close();
  });

  check('attributes change, merge and last', async (t, _, open) => {
    let store = await open();
    const bytes = bytesOf(10, 12);
    const digest = digestOf(bytes);
    t.equal(await store.addProvenance(digest, { upstream: 'u', repository: 'r' }), false);
    await store.putBytes(digest, bytes, { ...CACHED, mediaType: 'm' });
    t.equal(await store.addProvenance(digest, { upstream: 'u', repository: 'r' }), true);
    await store.putBytes(digest, bytes, PUSHED);
    await store.putBytes(digest, bytes, CACHED);
    await store.close();
    store = await open();
    const attrs = (await store.stat(digest))!.attrs;
    t.same(attrs, {
      class: 'pushed',
      writtenBack: false,
      mediaType: 'm',
      provenance: [
        { upstream: 'u', repository: 'r' },
        { upstream: 'u', repository: 'a/b' },
      ],
    });
    t.match(await store.setAttrs(digest, { writtenBack: true }), { writtenBack: true });
    t.ok(await store.delete(digest));
    t.notOk(await store.delete(digest));
    t.equal(await store.stat(digest), undefined);
    await store.close();
  });

  check('eviction takes the least recently used and nothing that must stay', async (t, _, open) => {
    let nowMs = 1e12;
    const store = await open(
      { budgetBytes: 100 * 1000, highWatermark: 0.9, lowWatermark: 0.5, accessGrainMs: 0 },
      () => nowMs,
    );
    await store.reconcile();
    const digests: Digest[] = [];
    const evicted: string[] = [];
    store.onEvicted((digest) => evicted.push(digest));
    for (let index = 0; index < 9; index++) {
      const bytes = bytesOf(10_000, 100 + index);
      digests.push(digestOf(bytes));
      await store.putBytes(digests[index]!, bytes, index === 1 ? PUSHED : CACHED);
      nowMs += 10_000;
      await (await store.open(digests[index]!))!.close();
      await accessNoted(store, digests[index]!, nowMs);
    }
    const reading = (await store.open(digests[0]!))!;
    t.equal(store.usage(), 90_000);
    t.same(evicted, []);
    await store.putBytes(digestOf(bytesOf(10_000, 99)), bytesOf(10_000, 99), CACHED);
    await store.evict();
    for (const kept of [0, 1]) t.ok(await store.has(digests[kept]!), `${kept} stays`);
    t.ok(store.usage() <= 50_000, `${store.usage()} bytes left`);
    t.ok(evicted.includes(digests[2]!), 'the oldest that may go is gone');
    await reading.close();
    await store.close();
  });

  check('pieces of partials count in the budget, and go when nobody came back', async (t, _, open) => {
    let nowMs = 1e12;
    const store = await open({ budgetBytes: 4 * MIB, partialTtlMs: 1e12 }, () => nowMs);
    await store.reconcile();
    const cached = bytesOf(2 * MIB, 501);
    await store.putBytes(digestOf(cached), cached, CACHED);
    t.equal((await store.evict()).count, 0, 'within the budget');
    const bytes = bytesOf(3 * MIB, 502);
    const partial = await store.openPartial(digestOf(bytes), bytes.length);
    await writePieces(partial, bytes, [0, 2]);
    t.equal((await store.evict()).count, 1, 'two pieces of a partial are 2 MiB');
    await partial.release();
    t.equal(await store.expirePartials(), 0, 'somebody may come back');
    nowMs = Date.now() + 2e12;
    t.ok((await store.expirePartials()) > 0, 'nobody did');
    await store.close();
  });

  check('another budget counts at once', async (t, _, open) => {
    const store = await open({ budgetBytes: 4 * MIB });
    await store.reconcile();
    const cached = bytesOf(2 * MIB, 503);
    await store.putBytes(digestOf(cached), cached, CACHED);
    store.adjust({ budgetBytes: MIB, highWatermark: 0.9, lowWatermark: 0.5 });
    await until(() => store.usage() === 0, 'it made room');
    t.notOk(await store.has(digestOf(cached)));
    await store.close();
  });

  check('writers of one digest at once all succeed', async (t, _, open) => {
    const store = await open();
    const bytes = bytesOf(MIB + 1, 13);
    const digest = digestOf(bytes);
    const push = async (id: string): Promise<void> => {
      const upload = await store.createUpload(id);
      await upload.append(bytes);
      await upload.commit(digest, PUSHED);
    };
    const pull = async (): Promise<void> => {
      const partial = await store.openPartial(digest, bytes.length);
      await writePieces(partial, bytes, [1, 0]);
      await partial.commit(CACHED).catch((error: unknown) => {
        if (!isCoded(error, 'STALE_ATTEMPT')) throw error;
      });
      await partial.release();
    };
    await Promise.all([push('a'), push('b'), store.putBytes(digest, bytes, CACHED), pull(), pull()]);
    t.match(await store.stat(digest), { sizeBytes: MIB + 1, attrs: { class: 'pushed' } });
    await store.reconcile();
    t.equal(store.usage(), MIB + 1);
    await store.close();
  });
}
