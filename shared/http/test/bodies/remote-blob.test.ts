import { Digester, digestOf } from '@sepia/base/digest';
import { Metainfo } from '@sepia/metainfo/metainfo';
import { PIECE_BYTES, pieceHash, pieceLeaves, pieceLength } from '@sepia/metainfo/tree';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { PieceShelf } from '../../src/bodies/piece-shelf.ts';
import { openRangeCount } from '../../src/bodies/range-stream.ts';
import { type BlobSource, RemoteBlob } from '../../src/bodies/remote-blob.ts';

const PIECES = 3;
const BYTES = Buffer.alloc(PIECES * PIECE_BYTES, 'sepia');
const DIGEST = digestOf(BYTES);
const WINDOW = 64 * 1024;
const never = new AbortController().signal;

function piece(index: number): Buffer {
  const at = index * PIECE_BYTES;
  return BYTES.subarray(at, at + pieceLength(BYTES.length, index));
}

/** Members that have all of it; `asked`: the ranges that they were asked for. */
function remote(shelf?: PieceShelf): { blob: RemoteBlob; asked: [number, number][] } {
  const asked: [number, number][] = [];
  const layer = Buffer.concat(Array.from({ length: PIECES }, (_, index) => pieceHash(piece(index))));
  const metainfo = Metainfo.final(DIGEST, BYTES.length, layer);
  const holders = { ids: ['origin-1', 'origin-2'], areWhole: true };
  const source: BlobSource = {
    find: () => Promise.resolve(holders),
    metainfo: () => Promise.resolve(undefined),
    leaves: (_id, first) => Promise.resolve(pieceLeaves(piece(first))),
    range: (_id, start, end) => {
      asked.push([start, end]);
      const chunks = function* (): Generator<Uint8Array> {
        for (let at = start; at <= end; at += WINDOW)
          yield Uint8Array.prototype.slice.call(BYTES, at, Math.min(end + 1, at + WINDOW));
      };
      const body = chunks();
      return Promise.resolve({
        [Symbol.asyncIterator]: () => ({ next: async () => await Promise.resolve(body.next()) }),
        destroy: () => undefined,
      });
    },
    wantAll: () => Promise.resolve(),
    isDefinite: () => false,
    wrong: () => undefined,
  };
  const options = { progressMs: 10_000, ...(shelf === undefined ? {} : { shelf }) };
  return { blob: new RemoteBlob(source, options, { holders, metainfo }), asked };
}

async function readAt(blob: RemoteBlob, at: number): Promise<Buffer> {
  const into = Buffer.alloc(WINDOW);
  await blob.leaves(Math.floor(at / PIECE_BYTES), never);
  await blob.ready(at, never);
  await blob.read(at, into, never);
  return into;
}

t.test('a quick reader reads one open range', async (t) => {
  const { blob, asked } = remote();
  const whole = new Digester('sha256');
  for (let at = 0; at < BYTES.length; at += WINDOW) whole.update(await readAt(blob, at));
  t.equal(whole.digest(), DIGEST);
  t.same(asked, [[0, BYTES.length - 1]]);
  t.equal(openRangeCount(), 0, 'a range that was read to its end is closed');
  blob.close();
});

t.test('who lets a range wait holds none: it reads window by window until it is quick again', async (t) => {
  const { blob, asked } = remote();
  await readAt(blob, 0);
  t.equal(openRangeCount(), 1);
  await until(() => openRangeCount() === 0, 'the range is closed');
  let at = WINDOW;
  for (; asked.length < 2 || asked.at(-1)![1] - asked.at(-1)![0] < WINDOW; at += WINDOW) {
    t.ok(at < PIECE_BYTES, 'a quick reader gets an open range again');
    t.ok((await readAt(blob, at)).equals(BYTES.subarray(at, at + WINDOW)));
  }
  t.same(asked[1], [WINDOW, 2 * WINDOW - 1], 'exactly the window');
  t.ok(asked.length > 3, 'several windows before it counts as quick');
  t.same(asked.at(-1), [at - WINDOW, BYTES.length - 1]);
  blob.close();
  t.equal(openRangeCount(), 0);
});

t.test('a process keeps few ranges open, however many read', async (t) => {
  const all = Array.from({ length: 60 }, () =>
    remote(new PieceShelf({ most: 0, idleMs: 0, nowMs: () => 0 })),
  );
  for (const { blob } of all) await readAt(blob, 0);
  t.ok(openRangeCount() <= 24, `${openRangeCount()}`);
  t.same(all.at(-1)!.asked, [[0, WINDOW - 1]], 'the rest asked for their window');
  for (const { blob } of all) blob.close();
  t.equal(openRangeCount(), 0);
});

t.test('those that may keep no range open share each piece, whatever their number', async (t) => {
  const shelf = new PieceShelf({ most: 2, idleMs: 60_000, nowMs: () => 0 });
  const all = Array.from({ length: 60 }, () => remote(shelf));
  for (const at of [0, WINDOW, PIECE_BYTES])
    for (const { blob } of all)
      t.ok((await readAt(blob, at)).equals(BYTES.subarray(at, at + WINDOW)), `byte ${at}`);
  const whole = all.flatMap(({ asked }) => asked).filter(([start, end]) => end - start === PIECE_BYTES - 1);
  t.same(
    whole,
    [
      [0, PIECE_BYTES - 1],
      [PIECE_BYTES, 2 * PIECE_BYTES - 1],
    ],
    'each piece once',
  );
  t.ok(all.flatMap(({ asked }) => asked).length <= 24 + 2 * 2, 'one window of who was there first');

  const { blob } = all.at(-1)!;
  shelf.peek(`${DIGEST} 1`)!.fill(0);
  await readAt(blob, PIECE_BYTES);
  await blob.mend(1);
  t.ok(
    (await readAt(blob, PIECE_BYTES)).equals(BYTES.subarray(PIECE_BYTES, PIECE_BYTES + WINDOW)),
    'wrong there: read again',
  );
  for (const one of all) one.blob.close();
  t.equal(openRangeCount(), 0);
});
