import type { UploadFile } from '@sepia/store/upload-file';
import t from 'tap';
import { appendBody } from '../../src/blobs/append-body.ts';

/** An upload in memory that counts its writes, and takes a copy of each as a disk does. */
class Taken {
  readonly writes: Buffer[] = [];

  get offset(): number {
    return this.writes.reduce((sum, one) => sum + one.length, 0);
  }

  async append(bytes: Uint8Array): Promise<void> {
    this.writes.push(Buffer.from(bytes));
  }
}

async function* chunksOf(bytes: Buffer, sizes: readonly number[]): AsyncGenerator<Uint8Array> {
  let at = 0;
  for (const size of sizes) {
    yield bytes.subarray(at, at + size);
    at += size;
  }
}

const KIB = 1024;
const BODIES: readonly {
  readonly what: string;
  readonly sizes: readonly number[];
  readonly writes: number;
}[] = [
  { what: 'none', sizes: [], writes: 0 },
  { what: 'one small chunk', sizes: [10 * KIB], writes: 1 },
  { what: 'small chunks, empty ones among them', sizes: [1, 0, 64 * KIB, 7], writes: 1 },
  { what: 'a small chunk before a large one', sizes: [5, 300 * KIB, 9], writes: 3 },
  { what: 'more small chunks than are gathered', sizes: Array(10).fill(60 * KIB), writes: 3 },
  { what: 'one of just the size that is gathered', sizes: [256 * KIB, 1], writes: 2 },
];

t.test('a body is written as it came, small chunks together', async (t) => {
  for (const { what, sizes, writes } of BODIES) {
    const length = sizes.reduce((sum, one) => sum + one, 0);
    const bytes = Buffer.from(Array.from({ length }, (_, at) => (at * 7 + (at >> 8)) % 251));
    const file = new Taken();
    await appendBody(file as unknown as UploadFile, chunksOf(bytes, sizes));
    t.ok(Buffer.concat(file.writes).equals(bytes), what);
    t.equal(file.writes.length, writes, what);
  }
});

t.test('a body may be just as long as the largest blob, and no byte longer', async (t) => {
  const limits = { maxBytes: 17 };
  const file = new Taken();
  await appendBody(file as unknown as UploadFile, chunksOf(Buffer.alloc(17), [9, 8]), limits);
  t.equal(file.offset, 17);
  await appendBody(file as unknown as UploadFile, chunksOf(Buffer.alloc(0), [0]), limits);
  const more = appendBody(file as unknown as UploadFile, chunksOf(Buffer.alloc(1), [1]), limits);
  await t.rejects(more, { code: 'REQUEST_TOO_LARGE', detail: limits });
  t.equal(file.offset, 17);
});

t.test('what came before a cut is stored', async (t) => {
  async function* cut(): AsyncGenerator<Uint8Array> {
    yield Buffer.from('ab');
    throw Object.assign(new Error('gone'), { code: 'ECONNRESET' });
  }
  const file = new Taken();
  await t.rejects(appendBody(file as unknown as UploadFile, cut()), { code: 'UPLOAD_INVALID' });
  t.equal(Buffer.concat(file.writes).toString(), 'ab');
});

t.test('a body that is not as long as its range is refused, and what fits of it is stored', async (t) => {
  const bodies = [
    { sizes: [4, 5], range: { start: 2, end: 12 }, stored: 9, what: 'shorter' },
    { sizes: [4, 8, 5], range: { start: 2, end: 12 }, stored: 4, what: 'longer' },
    { sizes: [], range: { start: 2, end: 2 }, stored: 0, what: 'none' },
  ];
  for (const { sizes, range, stored, what } of bodies) {
    const file = new Taken();
    file.writes.push(Buffer.alloc(2));
    const appended = appendBody(file as unknown as UploadFile, chunksOf(Buffer.alloc(17), sizes), { range });
    await t.rejects(appended, { code: 'SIZE_MISMATCH', detail: { offset: 2 + stored } }, what);
    t.equal(file.offset, 2 + stored, what);
  }
  const file = new Taken();
  const range = { start: 0, end: 16 };
  await appendBody(file as unknown as UploadFile, chunksOf(Buffer.alloc(17), [9, 8]), { range });
  t.equal(file.offset, 17, 'one that is as long');
});
