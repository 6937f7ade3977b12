import { createConnection, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { PIECE_BYTES } from '@sepia/metainfo/tree';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { CheckedBody } from '../../src/bodies/checked-body.ts';
import { BUFFER_BYTES } from '../../src/bodies/core/body-windows.ts';
import { readBuffers } from '../../src/bodies/read-buffers.ts';
import { FakeBlob } from '../support/fake-blob.ts';
import { drain, serve } from '../support/serve.ts';

const SIZE = 3 * PIECE_BYTES + 1000;

/** A blob of which a byte at `at` reads wrong, `times` times; `mended` says how its owner gets a right copy. */
class RottenBlob extends FakeBlob {
  reads = 0;
  mends = 0;
  at = 0;
  times = Number.POSITIVE_INFINITY;
  mended: 'piece' | 'wrong' | 'short' | 'again' | 'never' = 'again';

  override async read(offset: number, into: Uint8Array): Promise<void> {
    await super.read(offset, into);
    if (offset > this.at || offset + into.length <= this.at || this.reads >= this.times) return;
    this.reads += 1;
    into[this.at - offset]! ^= 1;
  }

  override async mend(piece?: number): Promise<undefined> {
    this.mends += 1;
    if (this.mended === 'never') throw new CodedError('NO_PEERS');
    if (this.mended === 'again') return undefined;
    const at = piece! * PIECE_BYTES;
    if (this.mended === 'wrong') return Buffer.alloc(PIECE_BYTES, 7) as unknown as undefined;
    if (this.mended === 'short') return this.bytes.subarray(at, at + 5) as unknown as undefined;
    return this.bytes.subarray(at, Math.min(this.sizeBytes, at + PIECE_BYTES)) as unknown as undefined;
  }
}

function rotten(seed: string, facts: Partial<Pick<RottenBlob, 'at' | 'times' | 'mended'>>): RottenBlob {
  const blob = Object.assign(new RottenBlob(SIZE, seed), facts);
  blob.land(0, 1, 2, 3);
  blob.finish();
  return blob;
}

t.test('a wrong leaf is never passed on: read again, mended, or cut before it', async (t) => {
  const at = PIECE_BYTES + 70_000;
  for (const range of [undefined, 'bytes=1000-', `bytes=${at}-${at}`]) {
    const headers = range === undefined ? {} : { range };
    const [from, to] =
      range === undefined ? [0, SIZE] : range === 'bytes=1000-' ? [1000, SIZE] : [at, at + 1];
    for (const facts of [{ times: 1 }, { mended: 'piece' as const }]) {
      const blob = rotten('rotten', { at, ...facts });
      const { get } = await serve(t, blob);
      const { bytes, cut } = await drain((await get(headers)).body);
      t.notOk(cut);
      t.ok(blob.bytes.subarray(from, to).equals(bytes), `${range} ${JSON.stringify(facts)}`);
      t.equal(blob.mends, 1, 'mended once, then read from there');
    }
  }
  for (const mended of ['never', 'again', 'wrong', 'short'] as const) {
    const blob = rotten('lost', { at, mended });
    const { get } = await serve(t, blob);
    const { bytes, cut } = await drain((await get()).body);
    t.ok(cut);
    t.ok(bytes.length <= at && blob.bytes.subarray(0, bytes.length).equals(bytes), mended);
    const refused = await get({ range: `bytes=${at}-` });
    t.equal(refused.statusCode, 503, 'before the first byte it is an error');
    await refused.body.dump();
  }
});

t.test('a piece that is mended in memory is served from there beside windows of the next one', async (t) => {
  /** Its leaf hashes are made of what lies on disk: of a damaged piece there are none. */
  class Leafless extends RottenBlob {
    readonly isWholeHere = true;
    override async leaves(index: number, signal: AbortSignal): Promise<Uint8Array> {
      if (index === Math.floor(this.at / PIECE_BYTES)) throw new CodedError('DISK_CORRUPT');
      return await super.leaves(index, signal);
    }
  }
  const blob = Object.assign(new Leafless(SIZE, 'leafless'), { at: PIECE_BYTES + 70_000, mended: 'piece' });
  blob.land(0, 1, 2, 3);
  blob.finish();
  const body = new CheckedBody(blob, false, new AbortController().signal);
  const range = { start: 0, end: SIZE - 1, withhold: false };
  const first = PIECE_BYTES;
  const second = first + BUFFER_BYTES.large;
  (await body.take(range, first, () => 'large')).free();
  // One of the next piece has come as far as its buffer.
  const full = new Error('no buffer');
  const next = body.take(range, 2 * PIECE_BYTES, () => {
    throw full;
  });
  await t.rejects(next, full);
  const chunk = await body.take(range, second, () => 'large');
  t.ok(blob.bytes.subarray(second, second + BUFFER_BYTES.large).equals(chunk.bytes));
  chunk.free();
  t.equal(blob.mends, 1);
});

t.test('what was verified in memory leaves from there, and is given back', async (t) => {
  let lent = 0;
  let out = 0;
  class LendingBlob extends FakeBlob {
    lend(piece: number): { bytes: Uint8Array; free: () => void } | undefined {
      if (piece === 1) return undefined;
      lent += 1;
      out += 1;
      const at = piece * PIECE_BYTES;
      let held = true;
      const free = (): void => {
        out -= held ? 1 : 0;
        held = false;
      };
      return { bytes: this.bytes.subarray(at, Math.min(this.sizeBytes, at + PIECE_BYTES)), free };
    }
  }
  for (const range of [undefined, 'bytes=1000-']) {
    const blob = new LendingBlob(SIZE, 'lending');
    blob.land(0, 1, 2, 3);
    blob.finish();
    const { get } = await serve(t, blob);
    const { bytes, cut } = await drain((await get(range === undefined ? {} : { range })).body);
    t.notOk(cut);
    t.ok(blob.bytes.subarray(range === undefined ? 0 : 1000).equals(bytes));
  }
  t.ok(lent > 0, 'a quick reader was lent some');
  t.equal(out, 0);
});

t.test('a blob is checked at every read, not only at the first', async (t) => {
  const blob = rotten('later', { at: 5, times: 0 });
  const { get } = await serve(t, blob);
  t.notOk((await drain((await get()).body)).cut);
  blob.times = Number.POSITIVE_INFINITY;
  blob.mended = 'never';
  t.equal((await get()).statusCode, 503);
});

t.test(
  'where others vouch for the whole, a body from byte 0 is hashed before its last piece leaves',
  async (t) => {
    class Vouched extends FakeBlob {
      override readonly provesWhole = false;
      wrong = 0;
      onWrongWhole(): void {
        this.wrong += 1;
      }
    }
    for (const [header, isLie] of [
      [undefined, true],
      ['bytes=0-', true],
      [undefined, false],
      ['bytes=5-', true],
    ] as const) {
      const blob = new Vouched(SIZE, 'vouched');
      if (isLie) Object.assign(blob, { digest: digestOf(Buffer.from('another')) });
      blob.land(0, 1, 2, 3);
      const { get } = await serve(t, blob);
      const answer = await get(header === undefined ? {} : { range: header });
      blob.finish();
      const { bytes, cut } = await drain(answer.body);
      const isSeen = isLie && header !== 'bytes=5-';
      t.equal(cut, isSeen, header ?? 'whole');
      t.equal(blob.wrong, isSeen ? 1 : 0);
      if (isSeen) t.equal(bytes.length, 3 * PIECE_BYTES, 'the last piece is withheld');
    }
  },
);

t.test('memory: a client that does not read holds one small buffer, and it comes back', async (t) => {
  const blob = FakeBlob.done(12 * PIECE_BYTES, 'unread');
  const { port, served } = await serve(t, blob);
  const sockets = await Promise.all(Array.from({ length: 20 }, () => silentClient(port)));
  await until(() => served.bytes > 0, 'all began');
  let before = -1;
  await until(() => {
    const same = before === served.bytes;
    before = served.bytes;
    return same;
  }, 'nothing moves any more');
  const { lent } = readBuffers;
  t.ok(
    lent.large * BUFFER_BYTES.large + lent.usual * BUFFER_BYTES.usual <= 20 * 2 * BUFFER_BYTES.large,
    JSON.stringify(lent),
  );
  for (const socket of sockets) socket.destroy();
  await until(
    () => readBuffers.lent.large + readBuffers.lent.usual + readBuffers.lent.small === 0,
    'given back',
  );
});

t.test('a client that takes nothing is cut, and what it held comes back', async (t) => {
  const blob = FakeBlob.done(12 * PIECE_BYTES, 'untaken');
  const { port, get, served } = await serve(t, blob, { untakenMs: 400 });
  const socket = await silentClient(port);
  await until(() => served.bytes > 0, 'it began');
  await until(() => readBuffers.lent.usual + readBuffers.lent.large + readBuffers.lent.small > 0, 'it holds');
  await until(
    () => readBuffers.lent.large + readBuffers.lent.usual + readBuffers.lent.small === 0,
    'given back though the client is there',
  );
  t.notOk(socket.destroyed);
  socket.destroy();
  t.notOk((await drain((await get()).body)).cut, 'one that reads is served');
});

t.test('a client that waits for bytes is not taken for one that takes none', async (t) => {
  const blob = new FakeBlob(2 * PIECE_BYTES, 'waits');
  blob.land(0);
  // Longer than this process, which is the client too, may stand still on a busy machine.
  const untakenMs = 2_000;
  const { get, served } = await serve(t, blob, { untakenMs, stallMs: 60_000 });
  const body = drain((await get()).body);
  await until(() => served.bytes === PIECE_BYTES, 'it has what is there');
  await delay(1.25 * untakenMs);
  blob.land(1);
  blob.finish();
  const { bytes, cut } = await body;
  t.notOk(cut);
  t.ok(blob.bytes.equals(bytes));
});

/** Asks for the blob and reads nothing. */
async function silentClient(port: number): Promise<Socket> {
  const socket = createConnection({ port, host: '127.0.0.1' });
  socket.on('error', () => undefined);
  await new Promise<void>((resolve) => socket.once('connect', resolve));
  socket.pause();
  socket.write('GET /blob HTTP/1.1\r\nHost: sepia\r\n\r\n');
  return socket;
}
