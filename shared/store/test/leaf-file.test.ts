import { digestOf } from '@sepia/base/digest';
import { silentLogger } from '@sepia/base/log';
import { foldLeaves, PIECE_BYTES, pieceLeaves } from '@sepia/metainfo/tree';
import { bytesOf } from '@sepia/test-support/seeded';
import t, { type Test } from 'tap';
import type { OpenFile, OpenMode } from '../src/files/file-port.ts';
import { LeafCache, LeafFile } from '../src/rot/leaf-file.ts';
import { CrashFiles } from './crash-files.ts';

const BLOCK = 2048;

/** Leaf hashes of piece `index`, made up: nothing here looks at the piece. */
function leavesOf(index: number): Uint8Array {
  return bytesOf(BLOCK, index + 1);
}

function ground(pieces: number, files = new CrashFiles('/d')): { files: CrashFiles; open(): LeafFile } {
  const blob = { digest: digestOf(Buffer.of(1)), sizeBytes: pieces * PIECE_BYTES };
  const log = silentLogger();
  return {
    files,
    open: () => new LeafFile({ files, cache: new LeafCache(), log, path: '/d/leaves' }, blob),
  };
}

async function checkAll(t: Test, file: LeafFile, pieces: readonly number[]): Promise<void> {
  for (const piece of pieces)
    t.ok(
      Buffer.from(leavesOf(piece)).equals((await file.get(piece, foldLeaves(leavesOf(piece))))!),
      `piece ${piece}`,
    );
}

t.test('hashes of 32 pieces are written at once, the rest when it is closed', async (t) => {
  const { files, open } = ground(40);
  const file = open();
  for (let piece = 0; piece < 31; piece++) await file.put(piece, leavesOf(piece));
  t.equal(files.operations, 0, 'nothing yet');
  await checkAll(t, file, [0, 30]);
  await file.put(31, leavesOf(31));
  t.equal(files.peek('/d/leaves').length, 32 * BLOCK);
  await file.put(39, leavesOf(39));
  await file.put(33, leavesOf(33));
  await file.close();
  await file.close();
  t.equal(files.peek('/d/leaves').length, 40 * BLOCK);
  const again = open();
  await checkAll(t, again, [0, 31, 33, 39]);
  t.equal(await again.get(34, foldLeaves(leavesOf(34))), undefined, 'never came');
});

t.test('what waits is bounded, in whatever order pieces come', async (t) => {
  const { files, open } = ground(32 * 20);
  const file = open();
  const pieces = Array.from({ length: 20 }, (_, chunk) => 32 * chunk + (chunk % 7));
  for (const piece of pieces) await file.put(piece, leavesOf(piece));
  t.equal(files.peek('/d/leaves').length, (pieces[17]! + 1) * BLOCK, 'the two newest wait');
  await checkAll(t, file, pieces);
  await file.close();
  await checkAll(t, open(), pieces);
});

t.test('what comes after the end is known as long as it is in memory', async (t) => {
  const { files, open } = ground(2);
  const file = open();
  await file.close();
  await file.put(0, leavesOf(0));
  await checkAll(t, file, [0]);
  t.equal(files.operations, 0);
});

t.test('a last piece that is short has fewer hashes', async (t) => {
  const files = new CrashFiles('/d');
  const bytes = bytesOf(100_000, 3);
  const blob = { digest: digestOf(bytes), sizeBytes: PIECE_BYTES + bytes.length };
  const log = silentLogger();
  const file = new LeafFile({ files, cache: new LeafCache(), log, path: '/d/leaves' }, blob);
  const last = pieceLeaves(bytes);
  await file.put(0, leavesOf(0));
  await file.put(1, last);
  await file.close();
  t.equal(files.peek('/d/leaves').length, BLOCK + last.length);
});

/** Counts what is open. */
class CountedFiles extends CrashFiles {
  opened = 0;

  override async open(path: string, mode: OpenMode): Promise<OpenFile> {
    const file = await super.open(path, mode);
    this.opened += 1;
    const close = file.close.bind(file);
    file.close = async () => {
      this.opened -= 1;
      await close();
    };
    return file;
  }
}

t.test('a file that the disk refuses is closed, and opened anew', async (t) => {
  const files = new CountedFiles('/d');
  const { open } = ground(40, files);
  const file = open();
  files.limitSpace(100);
  for (let piece = 0; piece < 32; piece++) await file.put(piece, leavesOf(piece));
  t.equal(files.opened, 0, 'none stays open');
  await checkAll(t, file, [0, 31]);
  files.limitSpace(Number.POSITIVE_INFINITY);
  await file.put(32, leavesOf(32));
  await file.close();
  t.equal(files.opened, 0);
  await checkAll(t, open(), [32]);
});
