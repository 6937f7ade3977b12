import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { Digester, digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { firstAttempt, Metainfo } from '@sepia/metainfo/metainfo';
import { PIECE_BYTES, pieceHash, pieceLeaves, pieceLength } from '@sepia/metainfo/tree';
import { until } from '@sepia/test-support/until';
import { VirtualTime } from '@sepia/test-support/virtual-time';
import t from 'tap';
import type { MetainfoNews } from '../../src/bodies/metainfo-follower.ts';
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

interface Remote {
  readonly blob: RemoteBlob;
  /** The ranges that were asked for. */
  readonly asked: [number, number][];
  readonly answers: WeakRef<object>[];
}

/** Members that have all of it. */
function remote(): Remote {
  const asked: [number, number][] = [];
  const answers: WeakRef<object>[] = [];
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
      const answer = {
        [Symbol.asyncIterator]: () => ({ next: async () => await Promise.resolve(body.next()) }),
        destroy: () => undefined,
      };
      answers.push(new WeakRef(answer));
      return Promise.resolve(answer);
    },
    wantAll: () => Promise.resolve(),
    isDefinite: () => false,
    wrong: () => undefined,
  };
  return {
    blob: new RemoteBlob(source, { progressMs: 10_000, stallMs: 30_000 }, { holders, metainfo }),
    asked,
    answers,
  };
}

async function readAt(blob: RemoteBlob, at: number): Promise<Buffer> {
  const into = Buffer.alloc(WINDOW);
  await blob.leaves(Math.floor(at / PIECE_BYTES), never);
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
  const all = Array.from({ length: 60 }, remote);
  for (const { blob } of all) await readAt(blob, 0);
  t.ok(openRangeCount() <= 24, `${openRangeCount()}`);
  t.same(all.at(-1)!.asked, [[0, WINDOW - 1]], 'the rest asked for their window');
  for (const { blob } of all) blob.close();
  t.equal(openRangeCount(), 0);
});

t.test('who does not read on holds no answer that is over', async (t) => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const all = Array.from({ length: 30 }, remote);
  for (const { blob } of all) await readAt(blob, 0);
  await until(() => openRangeCount() === 0, 'those that stayed open are closed');
  await until(() => {
    collect();
    return all.every(({ answers }) => answers.every((one) => one.deref() === undefined));
  }, 'the answers are gone');
  t.ok(all.every(({ answers }) => answers.length > 0));
  for (const { blob } of all) blob.close();
});

/** All of it is known but the end; `tell`: what a member says of it, `found`: who is found when the first is dead. */
function open(found: readonly string[], tell: (id: string) => Promise<MetainfoNews | undefined>): RemoteBlob {
  const metainfo = Metainfo.open(DIGEST, BYTES.length, firstAttempt(DIGEST));
  for (let index = 0; index < PIECES; index++) metainfo.addHash(index, pieceHash(piece(index)));
  const source = {
    find: () => Promise.resolve({ ids: found, areWhole: false }),
    metainfo: tell,
    wantAll: () => Promise.resolve(),
    isDefinite: () => false,
  } as Partial<BlobSource> as BlobSource;
  const holders = { ids: ['origin-1'], areWhole: false };
  return new RemoteBlob(source, { progressMs: 10_000, stallMs: 30_000 }, { holders, metainfo });
}

async function dead(): Promise<never> {
  return await Promise.reject(new CodedError('PEER_HTTP', { message: 'the origin is dead' }));
}

t.test('who fetches it dies: the end is heard of from whoever is found then', async (t) => {
  const time = new VirtualTime().install();
  t.teardown(() => time.uninstall());
  const final = Metainfo.final(
    DIGEST,
    BYTES.length,
    Buffer.concat([0, 1, 2].map((at) => pieceHash(piece(at)))),
  );
  const blob = open(['origin-2'], async (id) => {
    return id === 'origin-1' ? await dead() : { metainfo: final, etag: final.etag };
  });
  await time.settle(blob.whenFinal(never));
  t.ok(blob.isFinal);
  t.ok(time.elapsedMs < 1_000, `${time.elapsedMs}`);
  blob.close();
});

t.test(
  'nobody is left: the end is waited for as long as a body without progress, and no longer',
  async (t) => {
    const time = new VirtualTime().install();
    t.teardown(() => time.uninstall());
    const blob = open(['origin-1'], dead);
    await time.pass(60_000);
    await t.rejects(time.settle(blob.whenFinal(never)), { code: 'PEER_HTTP' }, 'idle time does not count');
    t.ok(time.elapsedMs > 70_000 && time.elapsedMs < 71_000, `${time.elapsedMs}`);
    blob.close();
  },
);

t.test('one that lives and has no news is waited for', async (t) => {
  const time = new VirtualTime().install();
  t.teardown(() => time.uninstall());
  let asked = 0;
  const quiet = async () => {
    await new Promise((resolve) => setTimeout(resolve, 9_000));
    asked += 1;
    return asked % 2 === 0 ? await dead() : undefined;
  };
  const blob = open(['origin-1'], quiet);
  const waits = blob.whenFinal(never).then(
    () => 'over',
    () => 'over',
  );
  t.equal(
    await time.settle(Promise.race([waits, new Promise((go) => setTimeout(go, 300_000, 'waits'))])),
    'waits',
  );
  t.ok(asked > 20, `${asked}`);
  blob.close();
  await waits;
});
