import { digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { Metainfo } from '@sepia/metainfo/metainfo';
import { LEAF_BYTES, PIECE_BYTES, pieceHash, pieceLeaves } from '@sepia/metainfo/tree';
import { bytesOf } from '@sepia/test-support/seeded';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { CheckedBody } from '../../src/bodies/checked-body.ts';
import { openRangeCount, type RangeBody } from '../../src/bodies/range-stream.ts';
import { type BlobSource, RemoteBlob } from '../../src/bodies/remote-blob.ts';

const BYTES = bytesOf(2 * PIECE_BYTES + 5_000, 31);
const DIGEST = digestOf(BYTES);
const PIECES = [0, 1, 2].map((index) => BYTES.subarray(index * PIECE_BYTES, (index + 1) * PIECE_BYTES));
const never = new AbortController().signal;
const isNothingOpen = (): boolean => openRangeCount() === 0;

interface Asked {
  readonly id: string;
  readonly start: number;
  readonly end: number;
  readonly signal: AbortSignal;
  answer(bytes?: Uint8Array): void;
  fail(error: Error): void;
  destroyed: boolean;
}

/** Members whose ranges and leaf hashes are answered by the test. */
function remote(leaves: BlobSource['leaves'] = async (_id, first) => pieceLeaves(PIECES[first]!)) {
  const asked: Asked[] = [];
  const wrong: string[] = [];
  const holders = { ids: ['origin-1', 'origin-2'], areWhole: true };
  const source: BlobSource = {
    find: async () => holders,
    metainfo: async () => undefined,
    leaves,
    range: async (id, start, end, signal) => {
      const coming = Promise.withResolvers<RangeBody>();
      const one: Asked = {
        ...{ id, start, end, signal, destroyed: false, fail: coming.reject },
        answer: (bytes = BYTES.subarray(start, end + 1)) => {
          const chunks = [bytes.slice(0, 1_000), bytes.slice(1_000)].values();
          coming.resolve({
            [Symbol.asyncIterator]: () => ({ next: async () => chunks.next() }),
            destroy: () => {
              one.destroyed = true;
            },
          });
        },
      };
      signal.addEventListener('abort', () => coming.reject(signal.reason));
      asked.push(one);
      return await coming.promise;
    },
    wantAll: async () => undefined,
    isDefinite: () => false,
    wrong: (id) => void wrong.push(id),
  };
  const metainfo = Metainfo.final(DIGEST, BYTES.length, Buffer.concat(PIECES.map(pieceHash)));
  const blob = new RemoteBlob(source, { progressMs: 10_000, stallMs: 30_000 }, { holders, metainfo });
  return { blob, asked, wrong };
}

/** Reads a range as a body does. */
async function read(blob: RemoteBlob, start: number, end: number): Promise<Buffer> {
  const body = new CheckedBody(blob, false, never);
  const reader = blob.openReader(Math.floor(start / PIECE_BYTES), end, start);
  const parts: Uint8Array[] = [];
  try {
    for (let at = start; at <= end; ) {
      const chunk = await body.take({ start, end, withhold: false }, at, () => 'usual');
      parts.push(Uint8Array.prototype.slice.call(chunk.bytes));
      at += chunk.bytes.length;
      chunk.free();
    }
    return Buffer.concat(parts);
  } finally {
    reader.close();
  }
}

t.afterEach(async () => {
  await until(isNothingOpen, 'no range is left open');
});

/** A blob whose leaf hashes come once `gate` is resolved. */
function gated(): ReturnType<typeof remote> & { gate: PromiseWithResolvers<void> } {
  const gate = Promise.withResolvers<void>();
  const leaves = async (_id: string, first: number): Promise<Uint8Array> => {
    await gate.promise;
    return pieceLeaves(PIECES[first]!);
  };
  return { ...remote(leaves), gate };
}

t.test('the first range is asked for beside the leaf hashes, and is the only one', async (t) => {
  for (const [start, end] of [
    [0, BYTES.length - 1],
    [0, 99_999],
    [70_000, 300_000],
    [PIECE_BYTES - 1, PIECE_BYTES + 1],
    [2 * PIECE_BYTES + 10, BYTES.length - 1],
  ] as const) {
    const gate = Promise.withResolvers<void>();
    const { blob, asked } = remote(async (_id, first) => {
      await gate.promise;
      return pieceLeaves(PIECES[first]!);
    });
    const reading = read(blob, start, end);
    await until(() => asked.length === 1, 'it is asked for');
    asked[0]!.answer();
    gate.resolve();
    t.ok((await reading).equals(BYTES.subarray(start, end + 1)), `${start}-${end}`);
    const from = Math.floor(start / LEAF_BYTES) * LEAF_BYTES;
    const to = Math.min(BYTES.length, Math.ceil((end + 1) / LEAF_BYTES) * LEAF_BYTES) - 1;
    t.same(
      asked.map((one) => [one.id, one.start, one.end]),
      [['origin-1', from, to]],
      'whole leaves',
    );
    blob.close();
  }
});

t.test('what is wrong in it is never handed out, and it is asked for again elsewhere', async (t) => {
  const { blob, asked, wrong } = remote();
  const reading = read(blob, 0, 99_999);
  await until(() => asked.length === 1, 'it is asked for');
  const bytes = Buffer.from(BYTES.subarray(0, asked[0]!.end + 1));
  bytes[50_000]! ^= 1;
  asked[0]!.answer(bytes);
  await until(() => asked.length === 2, 'it is asked for again');
  t.same([asked[1]!.id, asked[1]!.start], ['origin-2', 0]);
  asked[1]!.answer();
  t.ok((await reading).equals(BYTES.subarray(0, 100_000)));
  t.same(wrong, ['origin-1']);
  t.ok(asked[0]!.destroyed);
  blob.close();
});

t.test('one that is cut or refused before it is read was not asked', async (t) => {
  const { blob, asked, gate } = gated();
  const reading = read(blob, 0, 9);
  await until(() => asked.length === 1, 'it is asked for');
  asked[0]!.fail(new CodedError('NO_PEERS'));
  await until(isNothingOpen, 'it is forgotten');
  gate.resolve();
  await until(() => asked.length === 2, 'it is asked for anew');
  t.equal(asked[1]!.id, 'origin-1', 'of the same member');
  asked[1]!.answer();
  t.ok((await reading).equals(BYTES.subarray(0, 10)));
  blob.close();
});

t.test('one that ends early goes on at another member, at the byte that is wanted', async (t) => {
  const { blob, asked } = remote();
  const reading = read(blob, 0, 199_999);
  await until(() => asked.length === 1, 'it is asked for');
  asked[0]!.answer(BYTES.subarray(0, 70_000));
  await until(() => asked.length === 2, 'another one is asked');
  t.same([asked[1]!.id, asked[1]!.start], ['origin-2', 65_536]);
  asked[1]!.answer();
  t.ok((await reading).equals(BYTES.subarray(0, 200_000)));
  blob.close();
});

t.test('another member that tells the leaf hashes is read instead', async (t) => {
  const { blob, asked } = remote(async (id, first) => {
    if (id === 'origin-1') throw new CodedError('PEER_HTTP', { message: 'reset' });
    return pieceLeaves(PIECES[first]!);
  });
  const reading = read(blob, 0, 9);
  await until(() => asked.length === 2, 'the other one is asked');
  t.equal(asked[1]!.id, 'origin-2');
  asked[1]!.answer();
  t.ok((await reading).equals(BYTES.subarray(0, 10)));
  t.ok(asked[0]!.signal.aborted, 'the first is not waited for');
  blob.close();
});

t.test('a member too old to tell leaf hashes is read by pieces', async (t) => {
  const { blob, asked } = remote(async () => {
    throw new CodedError('ROUTE_UNKNOWN', { detail: { status: 404 } });
  });
  const reading = read(blob, 0, 9);
  await until(() => asked.length === 2, 'the piece is asked for');
  t.ok(asked[0]!.signal.aborted, 'and the range no more');
  t.same([asked[1]!.start, asked[1]!.end], [0, PIECE_BYTES - 1]);
  asked[1]!.answer();
  t.ok((await reading).equals(BYTES.subarray(0, 10)));
  blob.close();
});

t.test('one whose leaf hashes do not come holds no place of others, and is asked for anew', async (t) => {
  const { blob, asked, gate } = gated();
  const reading = read(blob, 0, 9);
  await until(() => asked.length === 1, 'it is asked for');
  await until(isNothingOpen, 'it is given up');
  t.ok(asked[0]!.signal.aborted);
  gate.resolve();
  await until(() => asked.length === 2, 'it is asked for anew');
  asked[1]!.answer();
  t.ok((await reading).equals(BYTES.subarray(0, 10)));
  blob.close();
});

t.test('who leaves while it comes ends it, and it alone', async (t) => {
  const gate = Promise.withResolvers<void>();
  const leaves: BlobSource['leaves'] = async (_id, first) => {
    await gate.promise;
    return pieceLeaves(PIECES[first]!);
  };
  const [gone, stays] = [remote(leaves), remote(leaves)];
  const left = t.rejects(read(gone.blob, 0, 9), { code: 'TIMEOUT' });
  const reading = read(stays.blob, 0, 9);
  await until(() => gone.asked.length + stays.asked.length === 2, 'both are asked for');
  gone.blob.close();
  await left;
  t.ok(gone.asked[0]!.signal.aborted);
  stays.asked[0]!.answer();
  gate.resolve();
  t.ok((await reading).equals(BYTES.subarray(0, 10)));
  t.notOk(stays.asked[0]!.signal.aborted);
  stays.blob.close();
});
