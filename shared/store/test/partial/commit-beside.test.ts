import { digestOf } from '@sepia/base/digest';
import { silentLogger } from '@sepia/base/log';
import { Metainfo } from '@sepia/metainfo/metainfo';
import { PIECE_BYTES, pieceHash } from '@sepia/metainfo/tree';
import { bytesOf } from '@sepia/test-support/seeded';
import t from 'tap';
import { BlobStore } from '../../src/blob-store.ts';
import type { OpenFile, OpenMode } from '../../src/files/file-port.ts';
import { blobPath, CACHED, pieceOf, readAll, writePieces } from '../contract.ts';
import { CrashFiles } from '../crash-files.ts';

const BYTES = bytesOf(2 * PIECE_BYTES, 5);
const DIGEST = digestOf(BYTES);

/** Stands still before a blob gets its name, before the next data file of a partial, or before one goes, once it is told to. */
class GatedFiles extends CrashFiles {
  #held:
    | {
        readonly at: 'rename' | 'create' | 'unlink';
        readonly reached: () => void;
        readonly go: Promise<void>;
      }
    | undefined;

  hold(at: 'rename' | 'create' | 'unlink'): { readonly reached: Promise<void>; readonly go: () => void } {
    const [reached, go] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    this.#held = { at, reached: reached.resolve, go: go.promise };
    return { reached: reached.promise, go: go.resolve };
  }

  override async open(path: string, mode: OpenMode): Promise<OpenFile> {
    if (mode === 'create' && path.includes('/partial/')) await this.#stand('create');
    return await super.open(path, mode);
  }

  override async rename(from: string, to: string): Promise<void> {
    if (to === blobPath('/d', DIGEST)) await this.#stand('rename');
    await super.rename(from, to);
  }

  override async unlink(path: string): Promise<void> {
    if (path.includes('/partial/')) await this.#stand('unlink');
    await super.unlink(path);
  }

  async #stand(at: 'rename' | 'create' | 'unlink'): Promise<void> {
    const held = this.#held;
    if (held?.at !== at) return;
    this.#held = undefined;
    held.reached();
    await held.go;
  }
}

async function storeOn(files: CrashFiles): Promise<BlobStore> {
  const deps = { files, dir: '/d', log: silentLogger(), nowMs: () => 1e12 };
  return await BlobStore.open(deps, { durable: true, bootId: 'b', mapDelayMs: 1e6 });
}

/** A tree that is whole, and not that of the blob: who takes it over has none of its pieces. */
function otherTree(): Metainfo {
  const layer = Buffer.concat([0, 1].map((index) => pieceHash(pieceOf(bytesOf(2 * PIECE_BYTES, 6), index))));
  return Metainfo.final(DIGEST, BYTES.length, layer);
}

t.test('what is being made a blob is not replaced', async (t) => {
  const files = new GatedFiles('/d');
  const store = await storeOn(files);
  const partial = await store.openPartial(DIGEST, BYTES.length);
  await writePieces(partial, BYTES, [0, 1]);
  const { reached, go } = files.hold('rename');
  const committing = partial.commit(CACHED);
  await reached;
  const replacing = partial.replaceMetainfo(otherTree());
  const settled = Promise.allSettled([replacing]);
  go();
  await committing;
  t.equal(partial.state, 'committed');
  await t.rejects(replacing, { code: 'STALE_ATTEMPT' });
  await settled;
  await partial.release();
  t.ok(Buffer.from(BYTES).equals((await readAll(store, DIGEST))!));
  t.same(await files.list('/d/partial'), [], 'nothing is left of the other');
  await store.close();
});

t.test('a commit of what is being replaced makes no blob', async (t) => {
  const files = new GatedFiles('/d');
  const store = await storeOn(files);
  const partial = await store.openPartial(DIGEST, BYTES.length);
  await writePieces(partial, BYTES, [0, 1]);
  const { reached, go } = files.hold('create');
  const replacing = partial.replaceMetainfo(otherTree());
  await reached;
  const committing = partial.commit(CACHED);
  const settled = Promise.allSettled([committing]);
  go();
  await replacing;
  await t.rejects(committing, { code: 'STALE_ATTEMPT' }, 'and is no proof of wrong content');
  await settled;
  t.equal(partial.state, 'open');
  t.notOk(await store.has(DIGEST));
  await partial.release();
  await store.close();
});

t.test('another upstream is asked beside a commit: each has files of its own', async (t) => {
  const files = new GatedFiles('/d');
  const store = await storeOn(files);
  const first = await store.openPartial(DIGEST, BYTES.length, { source: 'a' });
  await writePieces(first, BYTES, [0, 1]);
  const { reached, go } = files.hold('rename');
  const committing = first.commit(CACHED);
  await reached;
  const opening = store.openPartial(DIGEST, BYTES.length, { source: 'b' });
  go();
  await committing;
  const second = await opening;
  t.not(second, first);
  await first.release();
  t.ok(Buffer.from(BYTES).equals((await readAll(store, DIGEST))!));
  await writePieces(second, BYTES, [0, 1]);
  await second.commit(CACHED);
  await second.release();
  t.ok(Buffer.from(BYTES).equals((await readAll(store, DIGEST))!));
  await store.close();
});

t.test('who takes a partial over has it open when its last user lets go meanwhile', async (t) => {
  const files = new GatedFiles('/d');
  const store = await storeOn(files);
  const first = await store.openPartial(DIGEST, BYTES.length, { source: 'a' });
  await writePieces(first, BYTES, [0]);
  const { reached, go } = files.hold('create');
  const opening = store.openPartial(DIGEST, BYTES.length, { source: 'b' });
  await reached;
  await first.release();
  go();
  const second = await opening;
  t.equal(second.closing, undefined);
  t.equal(second.have.count, 0, 'nothing of the other upstream');
  await writePieces(second, BYTES, [0, 1]);
  await second.commit(CACHED);
  await second.release();
  t.ok(Buffer.from(BYTES).equals((await readAll(store, DIGEST))!));
  await store.close();
});

t.test('who asks for a partial while it is dropped has none of its files', async (t) => {
  const files = new GatedFiles('/d');
  const store = await storeOn(files);
  const before = await store.openPartial(DIGEST, BYTES.length);
  await writePieces(before, BYTES, [0]);
  await before.release();
  const first = await store.openPartial(DIGEST, BYTES.length);
  t.equal(first.have.count, 1, 'its piece map is on disk');
  const { reached, go } = files.hold('unlink');
  const dropping = first.drop();
  await reached;
  const opening = store.openPartial(DIGEST, BYTES.length);
  // As far as it comes.
  for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve));
  go();
  await dropping;
  const second = await opening;
  t.equal(second.have.count, 0);
  await first.release();
  await writePieces(second, BYTES, [0, 1]);
  await second.commit(CACHED);
  await second.release();
  t.ok(Buffer.from(BYTES).equals((await readAll(store, DIGEST))!));
  await store.close();
});
