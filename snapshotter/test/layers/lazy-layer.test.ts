import { createHash } from 'node:crypto';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import { CodedError } from '@sepia/base/errors';
import { indexWithImage } from '@sepia/lazy/erofs/image-part';
import { layerImage } from '@sepia/lazy/erofs/layer-image';
import { compressedRange, readIndexHead } from '@sepia/lazy/index/layer-index';
import { LayerIndexer } from '@sepia/lazy/index/layer-indexer';
import t from 'tap';
import { noise } from '../../../shared/lazy/test/support/arbitrary-gzip.ts';
import { materialize } from '../../../shared/lazy/test/support/erofs-reader.ts';
import { writeTar } from '../../../shared/lazy/test/support/tar-writer.ts';
import { noteRead } from '../../src/fuse/shown-file.ts';
import type { AgentSource, Arrived } from '../../src/layers/agent-source.ts';
import { SpareSpans } from '../../src/layers/core/spare-spans.ts';
import { LazyLayer } from '../../src/layers/lazy-layer.ts';
import { answerFrom, type FilePlace } from '../../src/layers/made-image.ts';
import { spansOfPaths } from '../../src/layers/named-files.ts';

const TAR = writeTar(
  Array.from({ length: 30 }, (_none, index) => ({
    name: `file-${index}`,
    payload: noise(index, 9000 + 700 * index, 30),
  })),
);
const BLOB = gzipSync(TAR, { memLevel: 1 });

interface Source {
  reads: { start: number; end: number }[];
  completed: number;
  answer: (start: number, end: number, arrived: Arrived) => Promise<Buffer>;
}

function made(t: { testdir(): string }): {
  dir: string;
  whole: Buffer;
  source: Source;
  open: (bootId?: string, asked?: string[]) => Promise<LazyLayer>;
} {
  const dir = t.testdir();
  const indexer = new LayerIndexer({ spanBytes: 20_000 });
  indexer.push(BLOB);
  const { bytes } = indexer.end();
  writeFileSync(join(dir, 'index'), bytes);
  const source: Source = { reads: [], completed: 0, answer: async (start, end) => BLOB.subarray(start, end) };
  const read: AgentSource['read'] = async (_layer, start, end, _signal, arrived = () => undefined) => {
    source.reads.push({ start, end });
    return await source.answer(start, end, arrived);
  };
  const open = (bootId = 'b'.repeat(36), asked: string[] = []): Promise<LazyLayer> =>
    LazyLayer.open(
      {
        spare: new SpareSpans({ budgetBytes: 0, fullMs: 0 }),
        images: {
          ask: async ({ head }, question) => {
            asked.push(question.type);
            return answerFrom(head, question);
          },
        },
        source: { read },
        onFetched: () => undefined,
        onComplete: () => {
          source.completed += 1;
        },
      },
      {
        dir: () => join(dir, 'layer'),
        indexFile: join(dir, 'index'),
        home: { host: 'registry.example', repository: 't/x' },
        bootId,
      },
    );
  return { dir, whole: materialize(layerImage(readIndexHead(bytes)), TAR), source, open };
}

/** Resolves when nothing of a layer is on its way. */
async function quiet(layer: LazyLayer): Promise<void> {
  const isOnItsWay = (_span: unknown, number: number): boolean =>
    layer.hasOrFetches(number) && !layer.presence.has(number);
  while (layer.index.spans.some(isOnItsWay)) await setImmediate();
}

/** Where the content of each file is in the image. */
function contents(whole: Buffer): { at: number; length: number }[] {
  return Array.from({ length: 30 }, (_none, number) => {
    const length = 9000 + 700 * number;
    return { at: whole.indexOf(noise(number, length, 30).subarray(0, 4096)), length };
  });
}

t.test(
  'any range is read; what is there is not fetched again; ranges that are asked for at once are fetched once',
  async (t) => {
    const { whole, source, open } = made(t);
    const layer = await open();
    const middle = Math.floor(whole.length / 2);
    const asked = [0, 0, 100, 5000].map((by) => layer.read(middle + by, 10_000));
    for (const [index, bytes] of (await Promise.all(asked)).entries()) {
      const at = middle + [0, 0, 100, 5000][index]!;
      t.ok(bytes.equals(whole.subarray(at, at + 10_000)), `range ${index}`);
    }
    const before = source.reads.length;
    t.ok(before > 0 && before <= 3, `${before} requests`);
    await layer.read(middle, 10_000);
    t.equal(source.reads.length, before);
    t.ok((await layer.read(0, whole.length)).equals(whole));
    t.ok(layer.presence.isComplete);
    t.equal(source.completed, 1);
    await layer.close();
  },
);

t.test('wrong bytes are never stored; the next read asks again', async (t) => {
  const { whole, source, open } = made(t);
  const layer = await open();
  const right = source.answer;
  source.answer = async (start, end) => {
    const bytes = Buffer.from(BLOB.subarray(start, end));
    bytes[bytes.length >> 1]! ^= 4;
    return bytes;
  };
  await t.rejects(layer.read(whole.length - 5000, 5000), /./);
  t.equal(layer.presence.count, 0);
  source.answer = async () => {
    throw new CodedError('TIMEOUT');
  };
  await t.rejects(layer.read(whole.length - 5000, 5000), { code: 'TIMEOUT' });
  source.answer = right;
  t.ok((await layer.read(whole.length - 5000, 5000)).equals(whole.subarray(whole.length - 5000)));
  await layer.close();
});

t.test(
  'after a clean stop or in the same boot spans are there; after another boot they are not',
  async (t) => {
    const { dir, whole, source, open } = made(t);
    const first = await open();
    // Too little in order for anything to come ahead.
    const parts = [0, whole.length >> 1];
    for (const at of parts) await first.read(at, 40_000);
    const { count } = first.presence;
    t.ok(count > 3 && !first.presence.isComplete);
    const noted = readFileSync(join(dir, 'layer/map'));
    await first.close();
    const fetched = source.reads.length;
    const clean = await open('c'.repeat(36));
    t.equal(clean.presence.count, count, 'closed cleanly: another boot believes it');
    for (const at of parts) t.ok((await clean.read(at, 40_000)).equals(whole.subarray(at, at + 40_000)));
    t.equal(source.reads.length, fetched);
    await clean.close();
    writeFileSync(join(dir, 'layer/map'), noted);
    const sameBoot = await open();
    t.equal(sameBoot.presence.count, count, 'killed: the same boot believes it');
    await sameBoot.close();
    writeFileSync(join(dir, 'layer/map'), noted);
    const otherBoot = await open('d'.repeat(36));
    t.equal(otherBoot.presence.count, 0, 'killed with the machine: nothing is believed');
    t.ok((await otherBoot.read(0, whole.length)).equals(whole));
    await otherBoot.close();
  },
);

t.test('a complete layer is believed by any boot, unless its image is gone', async (t) => {
  const { dir, whole, source, open } = made(t);
  const first = await open();
  await first.fetch({ first: 0, last: first.index.spans.length - 1 });
  t.equal(source.completed, 1);
  const noted = readFileSync(join(dir, 'layer/map'));
  await first.close();
  writeFileSync(join(dir, 'layer/map'), noted);
  const killed = await open('c'.repeat(36));
  t.ok(killed.presence.isComplete);
  await killed.close();
  rmSync(join(dir, 'layer/image'));
  const gone = await open('c'.repeat(36));
  t.equal(gone.presence.count, 0);
  t.ok((await gone.read(0, whole.length)).equals(whole));
  await gone.close();
});

t.test(
  'files that were read are told in the order of their first reads, and can be filled first',
  async (t) => {
    const { whole, open } = made(t);
    const layer = await open();
    t.same(await layer.filesRead(), []);
    const turns = new Int32Array(layer.turns);
    const contentOf = (number: number): number =>
      whole.indexOf(noise(number, 9000 + 700 * number, 30).subarray(0, 4096));
    for (const [turn, number] of [20, 4, 20, 11].entries()) noteRead(turns, turn + 1, contentOf(number), 100);
    const read = await layer.filesRead();
    t.same(read, [
      { path: 'file-20', turn: 1 },
      { path: 'file-4', turn: 2 },
      { path: 'file-11', turn: 4 },
    ]);
    await layer.close();
    const paths = ['./file-20', 'not/there', '/file-4', 'file-11'];
    const next = await open();
    const wanted = (await spansOfPaths([next], paths)).map(({ span }) => span);
    for (const span of wanted) await next.fetch({ first: span, last: span });
    t.equal(next.presence.count, new Set(wanted).size, 'no span but those of the files');
    for (const number of [20, 4, 11])
      t.same(next.presence.missing(contentOf(number), 9000 + 700 * number), [], `file-${number} is there`);
    await next.close();
  },
);

t.test('content of a file is read by where it lies in the layer', async (t) => {
  const { open } = made(t);
  const layer = await open();
  const [entry] = (await layer.places(['file-7'])) as readonly [FilePlace];
  const bytes = await layer.readContent(entry.offset + 10, 500);
  t.ok(bytes.equals(TAR.subarray(entry.offset + 10, entry.offset + 510)));
  await t.rejects(layer.readContent(entry.offset, entry.size + 1), /in no file/);
  await t.rejects(layer.readContent(0, 10), /in no file/);
  await layer.close();
});

t.test('who reads a layer in order waits ever more rarely', async (t) => {
  const { whole, source, open } = made(t);
  const layer = await open();
  const turns = new Int32Array(layer.turns);
  let waited = 0;
  for (const [turn, { at, length }] of contents(whole).entries()) {
    noteRead(turns, turn + 1, at, length);
    if (layer.presence.missing(at, length).length > 0) waited += 1;
    t.ok((await layer.read(at, length)).equals(whole.subarray(at, at + length)), `file ${turn}`);
    await quiet(layer);
  }
  t.ok(waited <= 15, `${waited} of 30 files were waited for`);
  const asked = source.reads.map(({ start }) => start);
  t.equal(new Set(asked).size, asked.length, 'nothing is fetched twice');
  await layer.close();
});

t.test('reads that jump fetch nothing else', async (t) => {
  const { whole, open } = made(t);
  const layer = await open();
  const needed = new Set<number>();
  for (const number of [20, 4, 25, 11, 2, 28, 7, 15]) {
    const { at, length } = contents(whole)[number]!;
    for (const span of layer.presence.missing(at, length)) needed.add(span);
    await layer.read(at, length);
    await quiet(layer);
  }
  t.equal(layer.presence.count, needed.size);
  await layer.close();
});

t.test('a span is there as soon as its own bytes came', async (t) => {
  const { source, open } = made(t);
  const layer = await open();
  const rest = Promise.withResolvers<void>();
  source.answer = async (start, end, arrived) => {
    const bytes = Buffer.alloc(end - start);
    const here = compressedRange(layer.index, 3).end - start;
    BLOB.copy(bytes, 0, start, start + here);
    arrived(bytes, here);
    await rest.promise;
    BLOB.copy(bytes, 0, start, end);
    return bytes;
  };
  const all = layer.fetch({ first: 0, last: 6 });
  await layer.fetch({ first: 0, last: 3 });
  t.equal(layer.presence.count, 4);
  t.equal(source.reads.length, 1);
  rest.resolve();
  await all;
  t.equal(layer.presence.count, 7);
  await layer.close();
});

t.test('what is half way when a source fails is asked for again, what came stays', async (t) => {
  const { source, open } = made(t);
  const layer = await open();
  const right = source.answer;
  source.answer = async (start, end, arrived) => {
    const bytes = Buffer.alloc(end - start);
    const here = compressedRange(layer.index, 1).end - start;
    BLOB.copy(bytes, 0, start, start + here);
    arrived(bytes, here);
    throw new CodedError('TIMEOUT');
  };
  await t.rejects(layer.fetch({ first: 0, last: 6 }), { code: 'TIMEOUT' });
  t.equal(layer.presence.count, 2);
  source.answer = right;
  await layer.fetch({ first: 0, last: 6 });
  t.equal(layer.presence.count, 7);
  await layer.close();
});

t.test('the image that is behind an index is not made again', async (t) => {
  const { dir, whole, source, open } = made(t);
  const plain = readFileSync(join(dir, 'index'));
  writeFileSync(join(dir, 'index'), indexWithImage(plain));
  const asked: string[] = [];
  const layer = await open(undefined, asked);
  t.same(asked, []);
  t.ok((await layer.read(0, whole.length)).equals(whole));
  t.same(await layer.filesRead(), []);
  t.ok(source.reads.length > 0);
  t.same((await layer.places(['file-7'])).length, 1, 'entries are read where somebody asks for names');
  t.same(asked, ['places']);
  await layer.close();
});

t.test(
  'whether it may be the lowest of an image is asked once, where its index does not say it',
  async (t) => {
    const { dir, open } = made(t);
    const plain = readFileSync(join(dir, 'index'));
    const whole = indexWithImage(plain).subarray(0, -32);
    whole.writeUInt8(0, plain.length + 48);
    const sum = createHash('sha256').update(whole.subarray(plain.length)).digest();
    writeFileSync(join(dir, 'index'), Buffer.concat([whole, sum]));
    const asked: string[] = [];
    const layer = await open(undefined, asked);
    for (let pull = 0; pull < 2; pull++) t.equal(await layer.lowestConflict(), undefined);
    t.same(asked, ['lowest']);
    await layer.close();
  },
);
