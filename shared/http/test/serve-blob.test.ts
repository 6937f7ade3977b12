import { createConnection, type Socket } from 'node:net';
import { digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import { PIECE_BYTES } from '@sepia/metainfo/tree';
import t, { type Test } from 'tap';
import { type Dispatcher, request } from 'undici';
import { createApp } from '../src/app.ts';
import { BUFFER_BYTES } from '../src/core/body-windows.ts';
import { createGate } from '../src/gate.ts';
import { HttpListener } from '../src/listener.ts';
import { readBuffers } from '../src/read-buffers.ts';
import type { ReadableBlob } from '../src/readable-blob.ts';
import { serveBlob } from '../src/serve-blob.ts';
import { FakeBlob } from './support/fake-blob.ts';

/** A source that does not watch its signal. */
class DeafBlob extends FakeBlob {
  override leaves(index: number): Promise<Uint8Array> {
    return super.leaves(index, new AbortController().signal);
  }

  override whenFinal(): Promise<void> {
    return super.whenFinal(new AbortController().signal);
  }
}

interface Setup {
  readonly stallMs?: number;
  readonly firstPieceMs?: number;
  readonly resumable?: boolean;
}

/** Serves the blob at any path; tells how many bytes were handed to sockets. */
async function serve(t: Test, blob: ReadableBlob, setup: Setup = {}) {
  const served = { bytes: 0 };
  const app = createApp({ log: silentLogger(), gate: createGate({ open: { '/*': 'anyone' } }) });
  app.use((ctx) =>
    serveBlob(ctx, blob, {
      contentType: 'application/octet-stream',
      stallMs: setup.stallMs ?? 5_000,
      firstPieceMs: setup.firstPieceMs ?? 5_000,
      onBytes: (bytes) => {
        served.bytes += bytes;
      },
      ...(setup.resumable === undefined ? {} : { resumable: setup.resumable }),
    }),
  );
  const listener = await HttpListener.start(app.callback(), '127.0.0.1:0', 'listen');
  t.teardown(() => listener.stop(0));
  const get = (
    headers: Record<string, string> = {},
    method: 'GET' | 'HEAD' = 'GET',
  ): Promise<Dispatcher.ResponseData> =>
    request(`${listener.url}/blob`, { method, headers, signal: AbortSignal.timeout(20_000) });
  return { get, served, port: listener.port };
}

/** Reads until the body ends or is cut. */
async function drain(body: AsyncIterable<Uint8Array>): Promise<{ bytes: Buffer; cut: boolean }> {
  const chunks: Uint8Array[] = [];
  try {
    for await (const chunk of body) chunks.push(chunk);
    return { bytes: Buffer.concat(chunks), cut: false };
  } catch {
    return { bytes: Buffer.concat(chunks), cut: true };
  }
}

async function errorOf(answer: Dispatcher.ResponseData): Promise<{ status: number; code: string }> {
  const body = (await answer.body.json()) as { errors: { code: string }[] };
  return { status: answer.statusCode, code: body.errors[0]!.code };
}

async function until(what: () => boolean, message: string): Promise<void> {
  const deadlineMs = Date.now() + 10_000;
  while (!what()) {
    if (Date.now() > deadlineMs) throw new Error(`did not happen: ${message}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

const SIZE = 3 * PIECE_BYTES + 1000;

t.test('a whole blob, with the headers of a registry', async (t) => {
  const blob = FakeBlob.done(SIZE, 'whole');
  const { get, served } = await serve(t, blob);
  const answer = await get();
  t.equal(answer.statusCode, 200);
  t.match(answer.headers, {
    'content-length': String(SIZE),
    'content-type': 'application/octet-stream',
    'docker-content-digest': blob.digest,
    etag: `"${blob.digest}"`,
    'accept-ranges': 'bytes',
  });
  const { bytes, cut } = await drain(answer.body);
  t.notOk(cut);
  t.ok(blob.bytes.equals(bytes));
  t.equal(served.bytes, SIZE);
  t.same(blob.moves, [0, 0, 1, 2, 3], 'the fetching side knows where the reader stands');
  await until(() => blob.openReaders === 0, 'reader closed');
});

t.test('HEAD and 304 have no body and need no piece', async (t) => {
  const blob = new FakeBlob(SIZE, 'head');
  const { get } = await serve(t, blob);
  const head = await get({}, 'HEAD');
  t.equal(head.statusCode, 200);
  t.equal(head.headers['content-length'], String(SIZE));
  t.equal((await drain(head.body)).bytes.length, 0);
  const same = await get({ 'if-none-match': `"${blob.digest}"` });
  t.equal(same.statusCode, 304);
  t.equal((await drain(same.body)).bytes.length, 0);
});

t.test('single ranges: bounded, suffix, open-ended, across pieces', async (t) => {
  const blob = FakeBlob.done(SIZE, 'single');
  const { get } = await serve(t, blob);
  const edge = PIECE_BYTES;
  for (const [header, from, to] of [
    ['0-0', 0, 1],
    [`${edge - 5}-${edge + 4}`, edge - 5, edge + 5],
    [`${edge}-${2 * edge - 1}`, edge, 2 * edge],
    ['-10', SIZE - 10, SIZE],
    [`${2 * edge + 1}-`, 2 * edge + 1, SIZE],
    ['0-', 0, SIZE],
    [`${SIZE - 1}-${SIZE + 100}`, SIZE - 1, SIZE],
  ] as const) {
    const answer = await get({ range: `bytes=${header}` });
    t.equal(answer.statusCode, 206, header);
    t.equal(answer.headers['content-range'], `bytes ${from}-${to - 1}/${SIZE}`, header);
    t.equal(answer.headers['content-length'], String(to - from), header);
    t.ok(blob.bytes.subarray(from, to).equals((await drain(answer.body)).bytes), header);
  }
});

t.test('several ranges come as multipart, as long as announced', async (t) => {
  const blob = FakeBlob.done(SIZE, 'several');
  const { get } = await serve(t, blob);
  const answer = await get({ range: `bytes=0-4,${PIECE_BYTES - 2}-${PIECE_BYTES + 1},-3` });
  t.equal(answer.statusCode, 206);
  const boundary = /^multipart\/byteranges; boundary=(\w+)$/.exec(
    String(answer.headers['content-type']),
  )?.[1];
  const { bytes, cut } = await drain(answer.body);
  t.notOk(cut);
  t.equal(bytes.length, Number(answer.headers['content-length']));
  const expected = [
    [0, 5],
    [PIECE_BYTES - 2, PIECE_BYTES + 2],
    [SIZE - 3, SIZE],
  ].flatMap(([from = 0, to = 0]) => [
    Buffer.from(
      `\r\n--${boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes ${from}-${to - 1}/${SIZE}\r\n\r\n`,
    ),
    blob.bytes.subarray(from, to),
  ]);
  t.ok(Buffer.concat([...expected, Buffer.from(`\r\n--${boundary}--\r\n`)]).equals(bytes));
});

t.test('a range outside the blob is 416 with its size', async (t) => {
  const { get } = await serve(t, FakeBlob.done(1000, '416'));
  const answer = await get({ range: 'bytes=1000-' });
  t.equal(answer.headers['content-range'], 'bytes */1000');
  t.same(await errorOf(answer), { status: 416, code: 'UNSUPPORTED' });
});

t.test('If-Range with another tag means the whole blob', async (t) => {
  const blob = FakeBlob.done(1000, 'if-range');
  const { get } = await serve(t, blob);
  const other = await get({ range: 'bytes=1-2', 'if-range': '"sha256:other"' });
  t.equal(other.statusCode, 200);
  await drain(other.body);
  const same = await get({ range: 'bytes=1-2', 'if-range': `"${blob.digest}"` });
  t.equal(same.statusCode, 206);
  await drain(same.body);
});

t.test('an empty blob is a 200 of no bytes, after its digest was verified', async (t) => {
  const blob = new FakeBlob(0, 'empty');
  const { get } = await serve(t, blob);
  const pending = get();
  await until(() => blob.openReaders === 1, 'request arrived');
  blob.finish();
  const answer = await pending;
  t.equal(answer.statusCode, 200);
  t.equal(answer.headers['content-length'], '0');
  t.equal((await drain(answer.body)).bytes.length, 0);
  t.same(await errorOf(await get({ range: 'bytes=0-' })), { status: 416, code: 'UNSUPPORTED' });
});

t.test(
  'headers wait for the first piece; pieces flow as they land; the last waits for the whole digest',
  async (t) => {
    for (const range of [undefined, 'bytes=0-', `bytes=${PIECE_BYTES}-`]) {
      const blob = new FakeBlob(SIZE, 'flow');
      const first = range?.includes(String(PIECE_BYTES)) === true ? 1 : 0;
      const { get, served } = await serve(t, blob);
      const pending = get(range === undefined ? {} : { range });
      await until(() => blob.openReaders === 1, 'request arrived');
      t.equal(
        await Promise.race([pending, new Promise((resolve) => setTimeout(resolve, 50, 'no headers'))]),
        'no headers',
        range ?? 'whole',
      );
      blob.land(first);
      const answer = await pending;
      const read = drain(answer.body);
      await until(() => served.bytes === PIECE_BYTES, 'first piece out');
      blob.land(0, 1, 2, 3);
      await until(() => served.bytes === (3 - first) * PIECE_BYTES, 'all but the last out');
      await new Promise((resolve) => setTimeout(resolve, 50));
      t.equal(served.bytes, (3 - first) * PIECE_BYTES, 'the last piece is withheld');
      blob.finish();
      const { bytes, cut } = await read;
      t.notOk(cut);
      t.ok(blob.bytes.subarray(first * PIECE_BYTES).equals(bytes));
    }
  },
);

t.test('a whole digest that is wrong cuts before the last piece', async (t) => {
  const blob = new FakeBlob(SIZE, 'wrong');
  const { get } = await serve(t, blob);
  blob.land(0, 1, 2, 3);
  const answer = await get();
  const read = drain(answer.body);
  blob.fail(new CodedError('UPSTREAM_LIES'));
  const { bytes, cut } = await read;
  t.ok(cut);
  t.equal(bytes.length, 3 * PIECE_BYTES);
  await until(() => blob.openReaders === 0, 'reader closed');
});

t.test('a blob of one piece whose digest is wrong is an error, not a body', async (t) => {
  const blob = new FakeBlob(1000, 'wrong one');
  const { get, served } = await serve(t, blob);
  blob.land(0);
  const pending = get();
  await until(() => blob.openReaders === 1, 'request arrived');
  blob.fail(new CodedError('UPSTREAM_LIES'));
  t.same(await errorOf(await pending), { status: 502, code: 'UNAVAILABLE' });
  t.equal(served.bytes, 0);
});

t.test('bounded ranges of an open blob are served at once, the end of it too', async (t) => {
  const blob = new FakeBlob(SIZE, 'bounded');
  blob.land(3);
  const { get } = await serve(t, blob);
  for (const range of ['bytes=-100', `bytes=${SIZE - 100}-${SIZE - 1}`]) {
    const answer = await get({ range });
    t.equal(answer.statusCode, 206, range);
    t.ok(blob.bytes.subarray(-100).equals((await drain(answer.body)).bytes), range);
  }
});

t.test('no first piece in time is 503 with a body, and nothing of the blob in the headers', async (t) => {
  const blob = new FakeBlob(SIZE, 'late');
  const { get } = await serve(t, blob, { firstPieceMs: 50 });
  const answer = await get();
  for (const name of ['docker-content-digest', 'etag', 'cache-control', 'accept-ranges'])
    t.notOk(answer.headers[name], name);
  t.not(answer.headers['content-length'], String(SIZE));
  t.same(await errorOf(answer), { status: 503, code: 'UNAVAILABLE' });
  t.equal(blob.openReaders, 0);
});

t.test('a stall in mid-body cuts, also where the source does not listen to its signal', async (t) => {
  for (const deaf of [false, true]) {
    const blob = new (deaf ? DeafBlob : FakeBlob)(SIZE, 'stall');
    blob.land(0);
    const { get } = await serve(t, blob, { stallMs: 50 });
    const { bytes, cut } = await drain((await get()).body);
    t.ok(cut, `deaf: ${deaf}`);
    t.equal(bytes.length, PIECE_BYTES);
    await until(() => blob.openReaders === 0, 'reader closed');
  }
});

/** A blob of which a byte at `at` reads wrong, `times` times; `mended` says how its owner gets a right copy. */
class RottenBlob extends FakeBlob {
  reads = 0;
  mends = 0;
  at = 0;
  times = Number.POSITIVE_INFINITY;
  mended: 'piece' | 'again' | 'never' = 'again';

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
  for (const mended of ['never', 'again'] as const) {
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

/** Asks for the blob and reads nothing. */
async function silentClient(port: number): Promise<Socket> {
  const socket = createConnection({ port, host: '127.0.0.1' });
  socket.on('error', () => undefined);
  await new Promise<void>((resolve) => socket.once('connect', resolve));
  socket.pause();
  socket.write('GET /blob HTTP/1.1\r\nHost: sepia\r\n\r\n');
  return socket;
}

t.test('N- of a blob that failed verification is refused, other requests are not', async (t) => {
  const blob = FakeBlob.done(SIZE, 'resumable');
  const { get } = await serve(t, blob, { resumable: false });
  t.same(await errorOf(await get({ range: 'bytes=5-' })), { status: 503, code: 'UNAVAILABLE' });
  for (const range of ['bytes=0-', 'bytes=5-9', 'bytes=-5']) {
    const answer = await get({ range });
    t.equal(answer.statusCode, 206, range);
    await drain(answer.body);
  }
});

t.test('a client that leaves in mid-body ends the reader and the waits', async (t) => {
  const blob = new FakeBlob(SIZE, 'gone');
  const { port, served } = await serve(t, blob, { stallMs: 60_000 });
  blob.land(0);
  const socket = await open(port);
  socket.write('GET /blob HTTP/1.1\r\nHost: x\r\n\r\n');
  await until(() => served.bytes > 0, 'first piece out');
  socket.destroy();
  await until(() => blob.openReaders === 0, 'reader closed');
  t.equal(served.bytes, PIECE_BYTES);
});

t.test('a client that does not read holds back the source', async (t) => {
  const pieces = 64;
  const blob = FakeBlob.done(pieces * PIECE_BYTES, 'slow client');
  const { port, served } = await serve(t, blob);
  const socket = await open(port);
  socket.pause();
  socket.write('GET /blob HTTP/1.1\r\nHost: x\r\n\r\n');
  await until(() => served.bytes > 0, 'first piece out');
  let before = -1;
  while (before !== served.bytes) {
    before = served.bytes;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  t.ok(served.bytes < (pieces / 2) * PIECE_BYTES, `${served.bytes} bytes are out`);
  socket.destroy();
  await until(() => blob.openReaders === 0, 'reader closed');
});

async function open(port: number): Promise<Socket> {
  const socket = createConnection(port, '127.0.0.1');
  socket.on('error', () => undefined);
  await new Promise<void>((resolve) => socket.once('connect', () => resolve()));
  return socket;
}
