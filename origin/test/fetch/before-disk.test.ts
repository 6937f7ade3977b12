import type { BlobSource } from '@sepia/backend/blob-backend';
import { CodedError } from '@sepia/base/errors';
import { CheckedBody } from '@sepia/http/bodies/checked-body';
import type { ReadableBlob } from '@sepia/http/bodies/readable-blob';
import { PIECE_BYTES } from '@sepia/metainfo/tree';
import { diskFiles } from '@sepia/store/files/disk-files';
import type { FilePort } from '@sepia/store/files/file-port';
import { bytesOf } from '@sepia/test-support/seeded';
import t, { type Test } from 'tap';
import { type LoneFetch, loneFetch, streamOf } from '../support/lone-fetch.ts';

const never = new AbortController().signal;
const BLOB = bytesOf(2 * PIECE_BYTES + 5_000, 21);

/** Files in which a whole piece is written only once `open` was called; with an error it is refused. */
function heldPieces(): { files: FilePort; asked: Promise<void>; open: (error?: Error) => void } {
  const asked = Promise.withResolvers<void>();
  const gate = Promise.withResolvers<Error | undefined>();
  const open: FilePort['open'] = async (path, mode) => {
    const file = await diskFiles.open(path, mode);
    const write = async (bytes: Uint8Array, at: number): Promise<void> => {
      if (bytes.length === PIECE_BYTES) {
        asked.resolve();
        const error = await gate.promise;
        if (error !== undefined) throw error;
      }
      await file.write(bytes, at);
    };
    return {
      write,
      read: async (...args) => await file.read(...args),
      truncate: async (...args) => await file.truncate(...args),
      sync: async () => await file.sync(),
      sizeBytes: async () => await file.sizeBytes(),
      close: async () => await file.close(),
    };
  };
  return { files: { ...diskFiles, open }, asked: asked.promise, open: gate.resolve };
}

/** An upstream that sends these bytes. */
function sending(bytes: Uint8Array, error?: Error): BlobSource {
  return {
    headBlob: async () => ({ sizeBytes: BLOB.length }),
    getBlob: async () => ({
      status: 'whole',
      start: 0,
      sizeBytes: BLOB.length,
      body: streamOf(bytes, error),
    }),
  };
}

async function begun(
  t: Test,
  source: BlobSource,
  files: FilePort,
): Promise<LoneFetch & { blob: ReadableBlob }> {
  const lone = await loneFetch(t, BLOB, source, { files });
  lone.fetch.start();
  await lone.fetch.whenSized(never);
  const blob = lone.fetch.open();
  t.teardown(async () => await blob.close());
  return { ...lone, blob };
}

/** Reads a range as a body does, checked. */
async function read(blob: ReadableBlob, start: number, end: number): Promise<Buffer> {
  const body = new CheckedBody(blob, start === 0 && end === blob.sizeBytes - 1, never);
  const parts: Uint8Array[] = [];
  for (let at = start; at <= end; ) {
    const chunk = await body.take({ start, end, withhold: true }, at, () => 'usual');
    parts.push(Uint8Array.prototype.slice.call(chunk.bytes));
    at += chunk.bytes.length;
    chunk.free();
  }
  return Buffer.concat(parts);
}

t.test('a piece is read from memory before it is on disk, the last one after the whole digest', async (t) => {
  const held = heldPieces();
  const { fetch, blob } = await begun(t, sending(BLOB), held.files);
  const whole = read(blob, 0, BLOB.length - 1);
  const first = await read(blob, 0, PIECE_BYTES - 1);
  t.ok(first.equals(BLOB.subarray(0, PIECE_BYTES)));
  t.ok(blob.has(0) && fetch.have?.has(0) === false, 'its write has not ended');
  t.ok(fetch.metainfo?.knows(0), 'its hash is told');
  held.open();
  t.ok((await whole).equals(BLOB));
  await fetch.whenFinal(never);
});

t.test('a disk that refuses a piece which was read from memory ends its readers with that', async (t) => {
  const held = heldPieces();
  const { fetch, blob, errors } = await begun(t, sending(BLOB), held.files);
  const whole = read(blob, 0, BLOB.length - 1);
  await read(blob, 0, 99_999);
  held.open(new CodedError('DISK_FULL'));
  await t.rejects(whole, { code: 'DISK_FULL' });
  await t.rejects(read(blob, 0, 99_999), { code: 'DISK_FULL' });
  t.equal(fetch.state, 'failed');
  t.same(errors, []);
});

t.test('readers of an attempt whose whole digest is wrong never get its last piece', async (t) => {
  const wrong = Buffer.from(BLOB);
  wrong[PIECE_BYTES + 7]! ^= 1;
  const held = heldPieces();
  const { blob } = await begun(t, sending(wrong), held.files);
  const whole = read(blob, 0, BLOB.length - 1);
  t.ok((await read(blob, 0, 99_999)).equals(BLOB.subarray(0, 100_000)));
  held.open();
  const ends = { code: /^(STALE_ATTEMPT|UPSTREAM_LIES)$/ };
  await t.rejects(whole, ends);
  await t.rejects(read(blob, 0, 99_999), ends);
});

t.test('of a piece that was cut nothing is read, and who left changes nothing for who stays', async (t) => {
  const held = heldPieces();
  held.open();
  const cut = new CodedError('BACKEND_DOWN', { message: 'reset' });
  let answers = 0;
  const source: BlobSource = {
    headBlob: async () => ({ sizeBytes: BLOB.length }),
    getBlob: async ({ range }) => {
      answers += 1;
      const start = range?.start ?? 0;
      const rest = BLOB.subarray(start);
      const isFirst = answers === 1;
      const body = isFirst ? streamOf(BLOB.subarray(0, 700_000), cut) : streamOf(rest);
      return { status: start === 0 ? 'whole' : 'partial', start, sizeBytes: BLOB.length, body };
    },
  };
  const { fetch, blob } = await begun(t, source, held.files);
  const leaving = new AbortController();
  const other = fetch.open();
  const left = t.rejects(other.leaves(2, leaving.signal), { name: 'AbortError' });
  leaving.abort();
  await left;
  await other.close();
  t.ok((await read(blob, 0, BLOB.length - 1)).equals(BLOB));
  t.equal(answers, 2, 'the rest was asked for by Range');
});
