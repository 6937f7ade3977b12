import { type Digest, digestOf } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import { parseRepositoryName } from '@sepia/base/names/repository';
import { fc } from '@sepia/test-support/property';
import { seeded } from '@sepia/test-support/seeded';
import type { Test } from 'tap';
import type { BlobBackend, BlobContent } from '../src/blob-backend.ts';

/** A backend under test. */
export interface Ground {
  /** An empty place that nobody else has. */
  open(t: Test): Promise<BlobBackend>;
  /** The same place, as another member opens it. */
  again(t: Test, backend: BlobBackend): Promise<BlobBackend>;
  /** Bytes of a blob that is written in several parts. */
  readonly largeBytes: number;
}

export const REPOSITORY = parseRepositoryName('team/app');

/** A deadline for one step of a test. */
export function soon(): AbortSignal {
  return AbortSignal.timeout(60_000);
}

/** Content that is `bytes`; `digest` says what it claims to be. */
export function contentOf(bytes: Uint8Array, digest: Digest = digestOf(bytes)): BlobContent {
  return {
    repository: REPOSITORY,
    digest,
    sizeBytes: bytes.length,
    read: async (at, into) => {
      const part = bytes.subarray(at, at + into.length);
      into.set(part);
      return into.subarray(0, part.length);
    },
  };
}

/** The same bytes for the same seed. */
export function bytesOf(length: number, seed = 1): Buffer {
  const random = seeded(seed);
  const block = Buffer.from(Array.from({ length: 4096 }, () => Math.floor(random() * 256)));
  const bytes = Buffer.alloc(length);
  for (let at = 0; at < length; at += block.length) {
    bytes.set(block.subarray(0, Math.min(block.length, length - at)), at);
    if (length - at >= 8) bytes.writeUInt32LE(at / block.length, at);
  }
  return bytes;
}

export async function bytesIn(
  backend: BlobBackend,
  digest: Digest,
  range?: { readonly start: number; readonly end?: number },
): Promise<Buffer> {
  const chunks: Buffer[] = [];
  const { body } = await backend.getBlob({ repository: REPOSITORY, digest, range }, soon());
  for await (const chunk of body.lent()) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks);
}

async function isThere(backend: BlobBackend, digest: Digest): Promise<boolean> {
  try {
    await backend.headBlob({ repository: REPOSITORY, digest }, soon());
    return true;
  } catch (error) {
    if (isCoded(error, 'BLOB_UNKNOWN')) return false;
    throw error;
  }
}

/** What every blob backend keeps. */
export async function backendContract(t: Test, ground: Ground): Promise<void> {
  await t.test('blobs of every size come back, whole and in parts', async (t) => await blobs(t, ground));
  await t.test('what is not there is unknown', async (t) => await absent(t, ground));
  await t.test('what is not the blob is not written', async (t) => await wrong(t, ground));
  await t.test('nothing half is ever seen; a later writer finishes it', async (t) => await half(t, ground));
  await t.test('writers of one blob do not harm each other', async (t) => await crowd(t, ground));
  await t.test('it is for one cluster', async (t) => await claims(t, ground));
  await t.test('all blobs are listed, in order', async (t) => await listed(t, ground));
  await t.test('any sequence of calls is as a map would answer', async (t) => await model(t, ground));
}

async function blobs(t: Test, ground: Ground): Promise<void> {
  const backend = await ground.open(t);
  const other = await ground.again(t, backend);
  for (const length of [0, 1, 300_000, ground.largeBytes]) {
    const bytes = bytesOf(length);
    const digest = digestOf(bytes);
    const at = { repository: REPOSITORY, digest };
    t.equal(await backend.putBlob(contentOf(bytes), soon()), 'written', `${length} bytes`);
    t.equal(await other.putBlob(contentOf(bytes), soon()), 'there', 'for others too');
    const { sizeBytes } = await other.headBlob(at, soon());
    t.equal(sizeBytes, length);
    t.ok((await bytesIn(other, digest)).equals(bytes), 'whole');
    if (length < 10) continue;
    for (const [start, end] of [
      [0, 0],
      [7, 4_106],
      [length - 1, length - 1],
      [length - 100, length + 50],
      [1, undefined],
    ] as const) {
      const range = { start, ...(end === undefined ? {} : { end }) };
      const part = await bytesIn(other, digest, range);
      t.ok(part.equals(bytes.subarray(start, (end ?? length) + 1)), `${start}-${end ?? ''}`);
    }
    const { body, ...facts } = await backend.getBlob({ ...at, range: { start: 3, end: 9 } }, soon());
    body.destroy();
    t.same(facts, { status: 'partial', start: 3, sizeBytes: length });
    await t.rejects(backend.getBlob({ ...at, range: { start: length } }, soon()), { code: 'RANGE_INVALID' });
  }
  const bytes = bytesOf(70_000, 2);
  const digest = digestOf(bytes, 'sha512');
  t.equal(await backend.putBlob(contentOf(bytes, digest), soon()), 'written', 'of another algorithm');
  t.ok((await bytesIn(other, digest)).equals(bytes));
}

async function absent(t: Test, ground: Ground): Promise<void> {
  const backend = await ground.open(t);
  const digest = digestOf(Buffer.from('nobody wrote this'));
  const at = { repository: REPOSITORY, digest };
  await t.rejects(backend.headBlob(at, soon()), { code: 'BLOB_UNKNOWN' });
  await t.rejects(backend.getBlob(at, soon()), { code: 'BLOB_UNKNOWN' });
  await backend.deleteBlob(at, soon());
  const bytes = bytesOf(1_000);
  await backend.putBlob(contentOf(bytes), soon());
  await backend.deleteBlob({ digest: digestOf(bytes) }, soon());
  t.notOk(await isThere(backend, digestOf(bytes)), 'what was deleted is gone');
  t.equal(await backend.putBlob(contentOf(bytes), soon()), 'written', 'and may be written again');
}

async function claims(t: Test, ground: Ground): Promise<void> {
  const backend = await ground.open(t);
  const bytes = bytesOf(1_000, 7);
  await backend.putBlob(contentOf(bytes), soon());
  await backend.requireFree('them', soon());
  await Promise.all([backend.claim('us', soon()), backend.claim('us', soon())]);
  const again = await ground.again(t, backend);
  await again.claim('us', soon());
  await again.requireFree('us', soon());
  await t.rejects(again.requireFree('them', soon()), { code: 'UPSTREAM_DENIED' });
  await t.rejects(again.claim('them', soon()), {
    code: 'UPSTREAM_DENIED',
    message: /belongs to another cluster \(.*clusters\/us\).*remove this mark/,
  });
  const listed: string[] = [];
  for await (const { digest } of again.listBlobs(undefined, soon())) listed.push(digest);
  t.same(listed, [digestOf(bytes)], 'the mark is no blob');
}

async function wrong(t: Test, ground: Ground): Promise<void> {
  const backend = await ground.open(t);
  for (const length of [5_000, ground.largeBytes]) {
    const bytes = bytesOf(length, 3);
    const rotten = Buffer.from(bytes);
    rotten[length - 2]! ^= 1;
    const digest = digestOf(bytes);
    await t.rejects(backend.putBlob(contentOf(rotten, digest), soon()), { code: 'DISK_CORRUPT' });
    const short = { ...contentOf(bytes.subarray(0, length - 1), digest), sizeBytes: length };
    await t.rejects(backend.putBlob(short, soon()), { code: 'DISK_CORRUPT' });
    const unread = { ...contentOf(bytes), read: async () => Promise.reject(new CodedError('DISK_CORRUPT')) };
    await t.rejects(backend.putBlob(unread, soon()), { code: 'DISK_CORRUPT' });
    t.notOk(await isThere(backend, digest), `${length} bytes: nothing is left of it`);
    t.equal(await backend.putBlob(contentOf(bytes), soon()), 'written', 'the right one is taken');
    t.ok((await bytesIn(backend, digest)).equals(bytes));
  }
}

async function half(t: Test, ground: Ground): Promise<void> {
  const backend = await ground.open(t);
  const bytes = bytesOf(ground.largeBytes, 4);
  const digest = digestOf(bytes);
  const content = contentOf(bytes);
  for (const share of [0, 0.5, 0.95]) {
    const stop = new AbortController();
    const reason = new CodedError('DRAINING');
    const read: BlobContent['read'] = async (at, into) => {
      if (at + into.length >= share * bytes.length) stop.abort(reason);
      return await content.read(at, into);
    };
    await t.rejects(backend.putBlob({ ...content, read }, stop.signal), reason);
    t.notOk(await isThere(backend, digest), `not before all of it is there (${share})`);
  }
  const other = await ground.again(t, backend);
  t.equal(await other.putBlob(content, soon()), 'written');
  t.ok((await bytesIn(other, digest)).equals(bytes));
  const stop = new AbortController();
  const left = bytesOf(ground.largeBytes, 5);
  const read: BlobContent['read'] = async (at, into) => {
    if (at + into.length >= 0.5 * left.length) stop.abort();
    return await contentOf(left).read(at, into);
  };
  await t.rejects(backend.putBlob({ ...contentOf(left), read }, stop.signal), { name: 'AbortError' });
  t.equal(await other.tidy(0, soon()), 0, 'what is young is left alone');
  await other.tidy(Date.now() + 3_600_000, soon());
  t.equal(await other.tidy(Date.now() + 3_600_000, soon()), 0, 'nothing half is left');
  t.notOk(await isThere(backend, digestOf(left)));
  t.ok((await bytesIn(other, digest)).equals(bytes), 'what is whole stays');
}

async function crowd(t: Test, ground: Ground): Promise<void> {
  const backend = await ground.open(t);
  const all = [backend, await ground.again(t, backend), await ground.again(t, backend)];
  for (const length of [20_000, ground.largeBytes]) {
    const bytes = bytesOf(length, 6);
    await Promise.all(all.map(async (one) => await putAgain(one, bytes)));
    t.ok((await bytesIn(backend, digestOf(bytes))).equals(bytes), `${length} bytes`);
  }
}

/** As the queue before it does: a store that answers "internal error, try again" is asked again. */
async function putAgain(backend: BlobBackend, bytes: Buffer): Promise<void> {
  for (let tries = 1; ; tries++) {
    try {
      await backend.putBlob(contentOf(bytes), soon());
      return;
    } catch (error) {
      if (!isCoded(error, 'BACKEND_DOWN') || tries === 4) throw error;
    }
  }
}

async function listed(t: Test, ground: Ground): Promise<void> {
  const backend = await ground.open(t);
  const written: Digest[] = [];
  const before = Date.now();
  for (let n = 0; n < 12; n++) {
    const bytes = Buffer.from(`blob ${n}`);
    await backend.putBlob(contentOf(bytes), soon());
    written.push(digestOf(bytes));
  }
  written.sort();
  const list = async (after?: Digest): Promise<Digest[]> => {
    const found: Digest[] = [];
    for await (const { digest, sizeBytes, writtenMs } of backend.listBlobs(after, soon())) {
      found.push(digest);
      t.ok(sizeBytes >= 6 && sizeBytes <= 7, 'with their sizes');
      t.ok(Math.abs(writtenMs - before) < 120_000, 'and when they were written');
    }
    return found;
  };
  t.same(await list(), written);
  t.same(await list(written[5]), written.slice(6));
  t.same(await list(written.at(-1)), []);
}

async function model(t: Test, ground: Ground): Promise<void> {
  const backend = await ground.open(t);
  const step = fc.record({
    what: fc.constantFrom('put', 'delete', 'head', 'get'),
    which: fc.nat({ max: 4 }),
    from: fc.nat({ max: 200 }),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 12 }), async (steps) => {
      const known = new Set<number>();
      for (let which = 0; which < 5; which++)
        await backend.deleteBlob({ digest: digestOf(bytesOf(100, 50 + which)) }, soon());
      for (const { what, which, from } of steps) {
        const bytes = bytesOf(100, 50 + which);
        const digest = digestOf(bytes);
        if (what === 'put') {
          const found = await backend.putBlob(contentOf(bytes), soon());
          if ((found === 'there') !== known.has(which)) return false;
          known.add(which);
        } else if (what === 'delete') {
          await backend.deleteBlob({ digest }, soon());
          known.delete(which);
        } else if (what === 'head') {
          if ((await isThere(backend, digest)) !== known.has(which)) return false;
        } else if (known.has(which) && from < 100) {
          const part = await bytesIn(backend, digest, { start: from, end: 149 });
          if (!part.equals(bytes.subarray(from))) return false;
        }
      }
      return true;
    }),
    { numRuns: 15 },
  );
}
