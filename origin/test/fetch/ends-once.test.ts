import { setImmediate as turn } from 'node:timers/promises';
import type { BlobSource } from '@sepia/backend/blob-backend';
import { diskFiles } from '@sepia/store/files/disk-files';
import type { FilePort } from '@sepia/store/files/file-port';
import { bytesOf } from '@sepia/test-support/seeded';
import t from 'tap';
import { cachedAttrs } from '../../src/fetch/fetch-parts.ts';
import { loneFetch, streamOf } from '../support/lone-fetch.ts';

const never = new AbortController().signal;

/** Files that take their names only once `open` was called; `asked` resolves when the first waits for it. */
function heldNames(): { files: FilePort; asked: Promise<void>; open: () => void } {
  const asked = Promise.withResolvers<void>();
  const gate = Promise.withResolvers<void>();
  const rename = async (from: string, to: string): Promise<void> => {
    asked.resolve();
    await gate.promise;
    await diskFiles.rename(from, to);
  };
  return { files: { ...diskFiles, rename }, asked: asked.promise, open: gate.resolve };
}

t.test('a connection that fails behind the last piece is no end while the blob is stored', async (t) => {
  const blob = bytesOf(2_500_000, 11);
  const names = heldNames();
  const connection = Promise.withResolvers<void>();
  const longer = Buffer.concat([blob, Buffer.from('more')]);
  const source: BlobSource = {
    headBlob: async () => ({ sizeBytes: undefined }),
    // Encoded unasked: no size is stated.
    getBlob: async () => ({
      status: 'whole',
      start: 0,
      sizeBytes: undefined,
      body: streamOf(longer, undefined, connection.resolve),
    }),
  };
  const { fetch, ends, errors } = await loneFetch(t, blob, source, {
    files: names.files,
    sizeHint: blob.length,
  });
  fetch.start();
  await Promise.all([names.asked, connection.promise]);
  await turn();
  t.same(ends, [], 'it is being stored');
  names.open();
  await fetch.whenFinal(never);
  await turn();
  await turn();
  t.same(ends, ['final']);
  t.same(errors, []);
});

t.test('a fetch that is stopped while its blob is stored ends once', async (t) => {
  const blob = bytesOf(2_500_000, 12);
  const names = heldNames();
  const source: BlobSource = {
    headBlob: async () => ({ sizeBytes: blob.length }),
    getBlob: async () => ({ status: 'whole', start: 0, sizeBytes: blob.length, body: streamOf(blob) }),
  };
  const { fetch, ends, errors } = await loneFetch(t, blob, source, { files: names.files });
  fetch.start();
  await names.asked;
  const { partial } = fetch;
  fetch.stop();
  t.same(ends, ['failed']);
  names.open();
  await partial!.commit(cachedAttrs(fetch.name));
  t.equal(partial!.state, 'committed', 'what was under way is done');
  await turn();
  await partial!.closing;
  await turn();
  await turn();
  t.same(ends, ['failed']);
  t.same(errors, []);
});

t.test('what is stored by the time that its fetch begins is not asked for again', async (t) => {
  const blob = bytesOf(664, 13);
  const asked: string[] = [];
  const source: BlobSource = {
    headBlob: async () => {
      asked.push('head');
      return { sizeBytes: blob.length };
    },
    getBlob: async () => {
      asked.push('get');
      return { status: 'whole', start: 0, sizeBytes: blob.length, body: streamOf(blob) };
    },
  };
  const { fetch, ends, store } = await loneFetch(t, blob, source);
  const upload = await store.createUpload('before');
  await upload.append(blob);
  await upload.commit(fetch.name.digest, cachedAttrs(fetch.name));
  fetch.start();
  await fetch.whenSized(never);
  t.equal(fetch.state, 'final');
  t.same(asked, []);
  t.same(ends, ['final']);
  t.throws(() => fetch.open(), { code: 'NO_PEERS' }, 'read from the store, or asked for again');
});
