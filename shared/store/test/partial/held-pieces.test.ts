import { digestOf } from '@sepia/base/digest';
import { silentLogger } from '@sepia/base/log';
import { PIECE_BYTES, pieceHash, pieceLeaves } from '@sepia/metainfo/tree';
import { bytesOf } from '@sepia/test-support/seeded';
import t from 'tap';
import { BlobStore } from '../../src/blob-store.ts';
import type { OpenFile, OpenMode } from '../../src/files/file-port.ts';
import { CACHED, pieceOf } from '../contract.ts';
import { CrashFiles } from '../crash-files.ts';

const BYTES = bytesOf(2 * PIECE_BYTES, 3);
const DIGEST = digestOf(BYTES);

async function partialOn(files: CrashFiles) {
  const deps = { files, dir: '/d', log: silentLogger(), nowMs: () => 1e12 };
  const store = await BlobStore.open(deps, { durable: true, bootId: 'b', mapDelayMs: 1e6 });
  const partial = await store.openPartial(DIGEST, BYTES.length);
  for (const index of [0, 1]) partial.metainfo.addHash(index, pieceHash(pieceOf(BYTES, index)));
  return { store, partial };
}

t.test('a piece is read from memory while it is written', async (t) => {
  const { store, partial } = await partialOn(new CrashFiles('/d'));
  const told: number[] = [];
  const deaf = partial.onReadable((index) => told.push(index));
  for (const [index, leaves] of [
    [0, pieceLeaves(pieceOf(BYTES, 0))],
    [1, undefined],
  ] as const) {
    t.notOk(partial.isReadable(index));
    const writing = partial.writePiece(index, pieceOf(BYTES, index), leaves);
    t.ok(partial.isReadable(index) && !partial.have.has(index), 'before it is on disk');
    t.equal(told.at(-1), index);
    const [bytes, found] = await Promise.all([partial.readPiece(index, 7, 9), partial.leaves(index)]);
    t.same(Buffer.from(bytes), Buffer.from(pieceOf(BYTES, index).subarray(7, 16)));
    t.same(Buffer.from(found), Buffer.from(pieceLeaves(pieceOf(BYTES, index))));
    await writing;
    t.ok(partial.have.has(index));
  }
  deaf();
  t.same(told, [0, 1]);
  await partial.commit(CACHED);
  await partial.release();
  await store.close();
});

t.test('what could not be written can be read no longer', async (t) => {
  const files = new CrashFiles('/d');
  const { store, partial } = await partialOn(files);
  files.limitSpace(100);
  const writing = partial.writePiece(0, pieceOf(BYTES, 0));
  t.ok(partial.isReadable(0));
  await t.rejects(writing, { code: 'DISK_FULL' });
  t.notOk(partial.isReadable(0));
  files.limitSpace(Number.POSITIVE_INFINITY);
  await partial.writePiece(0, pieceOf(BYTES, 0));
  t.ok(partial.have.has(0), 'it is tried again');
  await partial.release();
  await store.close();
});

t.test('a new attempt forgets what is on its way', async (t) => {
  const { store, partial } = await partialOn(new CrashFiles('/d'));
  const { metainfo } = partial;
  const replacing = partial.replaceMetainfo(metainfo);
  const writing = partial.writePiece(0, pieceOf(BYTES, 0));
  await replacing;
  await t.rejects(writing, { code: 'STALE_ATTEMPT' });
  t.notOk(partial.isReadable(0));
  await partial.release();
  await store.close();
});

/** Stands still in the next read or write of any file, once it is told to. */
class SlowFiles extends CrashFiles {
  #held: { readonly reached: () => void; readonly go: Promise<void> } | undefined;

  hold(): { readonly reached: Promise<void>; readonly go: () => void } {
    const [reached, go] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    this.#held = { reached: reached.resolve, go: go.promise };
    return { reached: reached.promise, go: go.resolve };
  }

  override async open(path: string, mode: OpenMode): Promise<OpenFile> {
    const file = await super.open(path, mode);
    return {
      read: async (into, at) => {
        await this.#stand();
        return await file.read(into, at);
      },
      write: async (bytes, at) => {
        await this.#stand();
        await file.write(bytes, at);
      },
      truncate: async (sizeBytes) => await file.truncate(sizeBytes),
      sync: async () => await file.sync(),
      sizeBytes: async () => await file.sizeBytes(),
      close: async () => await file.close(),
    };
  }

  async #stand(): Promise<void> {
    const held = this.#held;
    this.#held = undefined;
    held?.reached();
    await held?.go;
  }
}

t.test('what is read or mended of an attempt that is replaced meanwhile is of none', async (t) => {
  const files = new SlowFiles('/d');
  const { store, partial } = await partialOn(files);
  const piece = pieceOf(BYTES, 0);
  const works: readonly (() => Promise<unknown>)[] = [
    () => partial.readPiece(0),
    () => partial.mendPiece(0, piece),
  ];
  for (const work of works) {
    await partial.writePiece(0, piece);
    const { reached, go } = files.hold();
    const working = work();
    await reached;
    await partial.replaceMetainfo(partial.metainfo);
    go();
    await t.rejects(working, { code: 'STALE_ATTEMPT' });
    t.notOk(partial.have.has(0));
  }
  await partial.release();
  await store.close();
});
