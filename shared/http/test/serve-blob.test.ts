import { createConnection, type Socket } from 'node:net';
import { CodedError } from '@sepia/base/errors';
import { PIECE_BYTES } from '@sepia/metainfo/tree';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { FakeBlob } from './support/fake-blob.ts';
import { drain, errorOf, serve } from './support/serve.ts';

/** A source that does not watch its signal. */
class DeafBlob extends FakeBlob {
  override leaves(index: number): Promise<Uint8Array> {
    return super.leaves(index, new AbortController().signal);
  }

  override whenFinal(): Promise<void> {
    return super.whenFinal(new AbortController().signal);
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
  const etag = `"${blob.digest}"`;
  for (const known of [etag, `W/${etag}`, '*', `"other", ${etag}`]) {
    for (const method of ['GET', 'HEAD'] as const) {
      const same = await get({ 'if-none-match': known }, method);
      t.equal(same.statusCode, 304, `${method} ${known}`);
      t.equal((await drain(same.body)).bytes.length, 0);
    }
  }
  t.equal((await get({ 'if-none-match': '"other", W/"another"' }, 'HEAD')).statusCode, 200);
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
  const part = await get({ range: 'bytes=0-' });
  t.equal(part.statusCode, 200, 'no part of it could be named');
  t.equal((await drain(part.body)).bytes.length, 0);
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
