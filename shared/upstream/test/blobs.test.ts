import { digestOf } from '@sepia/base/digest';
import { seededBytes } from '@sepia/test-support/upstream/fake-upstream';
import t from 'tap';
import {
  clientOf,
  failure,
  readAll,
  REPOSITORY as repository,
  soon,
  startUpstream,
} from './client-fixture.ts';

const BYTES = seededBytes(300_000, 'blob');

t.test('a blob comes whole, with its size', async (t) => {
  const upstream = await startUpstream(t);
  const digest = upstream.addBlob(repository, BYTES);
  const blob = await clientOf(t, upstream.url).getBlob({ repository, digest }, soon());
  t.match(blob, { status: 'whole', start: 0, sizeBytes: BYTES.length });
  t.ok(BYTES.equals(await readAll(blob.body)));
});

t.test('ranges are bounded, open-ended, or shortened to the end', async (t) => {
  const upstream = await startUpstream(t);
  const digest = upstream.addBlob(repository, BYTES);
  const client = clientOf(t, upstream.url);
  for (const range of [
    { start: 10, end: 19 },
    { start: 0, end: 0 },
    { start: 299_999 },
    { start: 299_990, end: 400_000 },
  ]) {
    const blob = await client.getBlob({ repository, digest, range }, soon());
    t.match(blob, { status: 'partial', start: range.start, sizeBytes: BYTES.length }, JSON.stringify(range));
    t.ok(
      BYTES.subarray(range.start, (range.end ?? BYTES.length) + 1).equals(await readAll(blob.body)),
      JSON.stringify(range),
    );
  }
  await failure(
    client.getBlob({ repository, digest, range: { start: BYTES.length } }, soon()),
    'RANGE_INVALID',
  );
});

t.test('an ignored range is told', async (t) => {
  const upstream = await startUpstream(t);
  const digest = upstream.addBlob(repository, BYTES);
  upstream.misbehave({ does: { type: 'ignore-range' } });
  const blob = await clientOf(t, upstream.url).getBlob({ repository, digest, range: { start: 100 } }, soon());
  t.match(blob, { status: 'whole', start: 0, sizeBytes: BYTES.length });
  t.ok(BYTES.equals(await readAll(blob.body)));
});

t.test('without Content-Length the size is unknown and the bytes come', async (t) => {
  const upstream = await startUpstream(t);
  const digest = upstream.addBlob(repository, BYTES);
  upstream.misbehave({ does: { type: 'chunked' } });
  const client = clientOf(t, upstream.url);
  const blob = await client.getBlob({ repository, digest }, soon());
  t.equal(blob.sizeBytes, undefined);
  t.ok(BYTES.equals(await readAll(blob.body)));
  t.same(await client.headBlob({ repository, digest }, soon()), { sizeBytes: undefined });
});

t.test('HEAD of a blob falls back to GET, closed after its headers', async (t) => {
  for (const status of [400, 404, 405, 500, 501]) {
    const upstream = await startUpstream(t);
    const big = seededBytes(20_000_000, 'big');
    const digest = upstream.addBlob(repository, big);
    upstream.misbehave({ method: 'HEAD', does: { type: 'status', status } });
    t.same(
      await clientOf(t, upstream.url).headBlob({ repository, digest }, soon()),
      { sizeBytes: big.length },
      String(status),
    );
    t.equal(upstream.requests('blob', 'GET').length, 1);
    await upstream.down();
    t.ok(upstream.blobBytes < big.length, `${upstream.blobBytes} bytes went out`);
  }
});

t.test('HEAD alone is enough where it works; a missing blob is missing', async (t) => {
  const upstream = await startUpstream(t);
  const digest = upstream.addBlob(repository, BYTES);
  const client = clientOf(t, upstream.url);
  t.same(await client.headBlob({ repository, digest }, soon()), { sizeBytes: BYTES.length });
  t.equal(upstream.requests('blob', 'GET').length, 0);
  await failure(client.headBlob({ repository, digest: digestOf(Buffer.from('no')) }, soon()), 'BLOB_UNKNOWN');
});

t.test('an empty blob has an empty body', async (t) => {
  const upstream = await startUpstream(t);
  const digest = upstream.addBlob(repository, Buffer.alloc(0));
  const blob = await clientOf(t, upstream.url).getBlob({ repository, digest }, soon());
  t.equal(blob.sizeBytes, 0);
  t.equal((await readAll(blob.body)).length, 0);
});

t.test('redirects lead to another host without credentials, ranges kept', async (t) => {
  for (const status of [301, 302, 307, 308]) {
    const upstream = await startUpstream(t, { auth: { type: 'basic', username: 'u', password: 'p' } });
    const digest = upstream.addBlob(repository, BYTES);
    upstream.misbehave({ kind: 'blob', does: { type: 'redirect', status } });
    const client = clientOf(t, upstream.url, { credentials: { username: 'u', password: 'p' } });
    const blob = await client.getBlob({ repository, digest, range: { start: 7, end: 9 } }, soon());
    t.ok(BYTES.subarray(7, 10).equals(await readAll(blob.body)), String(status));
    const [stored] = upstream.requests('store');
    t.equal(stored?.authorization, undefined);
    t.equal(stored?.range, 'bytes=7-9');
    t.match(upstream.requests('blob').at(-1)?.authorization, /^Basic /);
  }
});

t.test('a redirect back to the upstream brings no credentials along once it left', async (t) => {
  const upstream = await startUpstream(t, { auth: { type: 'basic', username: 'u', password: 'p' } });
  const digest = upstream.addBlob(repository, BYTES);
  upstream.misbehave({ kind: 'blob', does: { type: 'redirect' }, times: 2 });
  const client = clientOf(t, upstream.url, { credentials: { username: 'u', password: 'p' } });
  const other = await startUpstream(t);
  upstream.behave();
  other.misbehave({ does: { type: 'redirect', to: `${upstream.url}/v2/secret/blobs/${digest}` } });
  upstream.misbehave({
    kind: 'blob',
    path: `/v2/${repository}/`,
    does: { type: 'redirect', to: `${other.url}/v2/x/blobs/${digest}` },
  });
  await failure(client.getBlob({ repository, digest }, soon()), 'UPSTREAM_DENIED');
  t.equal(upstream.log.find((entry) => entry.path.startsWith('/v2/secret/'))?.authorization, undefined);
});

t.test('redirects that lead nowhere sensible are refused', async (t) => {
  const reason = 'redirect-refused';
  for (const [to, detail] of [
    ['ftp://127.0.0.1/x', { reason }],
    ['file:///etc/passwd', { reason }],
    ['http://user:secret@127.0.0.1/', { reason }],
    ['http://[', { reason: undefined }],
    ['javascript:1', { reason }],
  ] as const) {
    const upstream = await startUpstream(t);
    const digest = upstream.addBlob(repository, BYTES);
    upstream.misbehave({ does: { type: 'redirect', to } });
    const error = await failure(
      clientOf(t, upstream.url).getBlob({ repository, digest }, soon()),
      'BACKEND_DOWN',
    );
    t.match(error.message, /redirect of/, to);
    t.match(error.detail, { host: new URL(upstream.url).host, ...detail }, to);
    t.notMatch(error.message, /secret/);
  }
});

t.test('a redirect loop ends after five', async (t) => {
  const upstream = await startUpstream(t);
  const digest = upstream.addBlob(repository, BYTES);
  upstream.misbehave({ does: { type: 'redirect', to: `/v2/${repository}/blobs/${digest}` } });
  const error = await failure(
    clientOf(t, upstream.url).getBlob({ repository, digest }, soon()),
    'BACKEND_DOWN',
  );
  t.match(error.message, /more than 5 times/);
  t.equal(upstream.log.length, 6);
});

t.test('what the store behind a redirect refuses says nothing about the registry', async (t) => {
  for (const status of [403, 404, 500]) {
    const upstream = await startUpstream(t);
    const digest = upstream.addBlob(repository, BYTES);
    upstream.misbehave({ kind: 'blob', does: { type: 'redirect' } });
    upstream.misbehave({ kind: 'store', does: { type: 'status', status } });
    const error = await failure(
      clientOf(t, upstream.url).getBlob({ repository, digest }, soon()),
      'BACKEND_DOWN',
    );
    t.equal(error.detail['status'], status);
  }
});

t.test(
  'a web page in place of a blob is a registry that is away, and of a page that is the blob it is the blob',
  async (t) => {
    const upstream = await startUpstream(t);
    const page = Buffer.from('<html>back soon</html>');
    const [digest, paged] = [upstream.addBlob(repository, BYTES), upstream.addBlob(repository, page)];
    const headers = { 'content-type': 'text/html; charset=utf-8', 'content-length': String(page.length) };
    let undo = upstream.misbehave({
      kind: 'blob',
      does: { type: 'status', status: 200, headers, body: String(page) },
    });
    const client = clientOf(t, upstream.url);
    const sizeBytes = BYTES.length;
    await failure(client.getBlob({ repository, digest, sizeBytes }, soon()), 'BACKEND_DOWN');
    const range = { start: 10 };
    await failure(client.getBlob({ repository, digest, sizeBytes, range }, soon()), 'BACKEND_DOWN');
    const { body } = await client.getBlob({ repository, digest: paged, sizeBytes: page.length }, soon());
    t.ok(page.equals(await readAll(body)));
    // Its length need not be told.
    const chunked = { 'content-type': 'text/html', 'transfer-encoding': 'chunked' };
    const say = (body: string): void => {
      undo();
      undo = upstream.misbehave({
        kind: 'blob',
        does: { type: 'status', status: 200, headers: chunked, body },
      });
    };
    const read = async (asked: object): Promise<Buffer> =>
      await readAll((await client.getBlob({ repository, digest, ...asked }, soon())).body);
    for (const text of [String(page), '<html>'.padEnd(64 * 1024, 'x')]) {
      say(text);
      await failure(read({ sizeBytes }), 'BACKEND_DOWN');
      await failure(read({ sizeBytes, range }), 'BACKEND_DOWN');
      t.equal(String(await read({ digest: paged, sizeBytes: text.length })), text);
    }
    const long = '<html>'.padEnd(300_000, 'x');
    say(long);
    t.equal(String(await read({ digest: paged, sizeBytes: long.length })), long);
  },
);
