import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isCoded } from '@sepia/base/errors';
import { indexHeadBytes } from '@sepia/lazy/index/layer-index';
import { LayerIndexer } from '@sepia/lazy/index/layer-indexer';
import type { ByteString } from '@sepia/lazy/tar/byte-string';
import t, { type Test } from 'tap';
import { writeTar } from '../../../shared/lazy/test/support/tar-writer.ts';
import { ImageProcess, type IndexAt } from '../../src/layers/image-process.ts';
import { answerFrom } from '../../src/layers/made-image.ts';

/** The index of a layer of files in folders that it only implies. */
function indexOf(files: number): Buffer {
  const parts = Array.from({ length: files }, (_none, at) => ({
    name: `srv/${at % 10}/file-${at}`,
    payload: Buffer.from(`${at}`),
  }));
  const indexer = new LayerIndexer();
  indexer.push(writeTar(parts));
  return indexer.end().bytes;
}

const MANY = indexOf(6_000);
const FEW = indexOf(10);
const IMAGE = { type: 'image' } as const;

/** A process of the test's, and indexes in files. */
function made(
  t: Test,
  options: { jobMs?: number } = {},
): { images: ImageProcess; at: (bytes: Buffer) => IndexAt; left: () => string[] } {
  const dir = t.testdir();
  const images = new ImageProcess(join(dir, 'layers'), options);
  t.teardown(() => images.close());
  let number = 0;
  const at = (bytes: Buffer): IndexAt => {
    number += 1;
    const file = join(dir, `index-${number}`);
    writeFileSync(file, bytes);
    return { file, head: bytes.subarray(0, indexHeadBytes(bytes)) };
  };
  const left = (): string[] => (existsSync(join(dir, 'layers')) ? readdirSync(join(dir, 'layers')) : []);
  return { images, at, left };
}

t.test('a layer is the same whoever makes its image', async (t) => {
  const { images, at, left } = made(t);
  for (const head of [FEW, MANY]) {
    const [made, right] = [await images.ask(at(head), IMAGE), answerFrom(head, IMAGE)];
    t.ok(Buffer.from(made.meta).equals(Buffer.from(right.meta)));
    t.same([...made.extents.image], [...right.extents.image]);
    t.same([...made.extents.layer], [...right.extents.layer]);
    t.same([...made.extents.length], [...right.extents.length]);
    const facts = { sizeBytes: right.sizeBytes, implied: right.implied };
    t.match(made, facts);
    t.equal(made.implied.length, 11);
    t.same(await images.ask(at(head), { type: 'files' }), answerFrom(head, { type: 'files' }));
    t.same(await images.ask(at(head), { type: 'tree' }), answerFrom(head, { type: 'tree' }));
    const places = { type: 'places', paths: ['no/such', '/srv/3/file-3'] } as const;
    t.match(await images.ask(at(head), places), [{ turn: 1, size: 1 }]);
    t.same(left(), [], 'what was handed over in a file is not left there');
    t.same(await images.ask(at(head), { type: 'lowest' }), []);
    const outline = { type: 'outline', paths: ['srv/3', 'no/such'] as ByteString[] } as const;
    t.same(await images.ask(at(head), outline), answerFrom(head, outline));
  }
});

t.test('what is wrong with one layer is told, by whoever looks', async (t) => {
  const { images, at } = made(t);
  for (const head of [FEW, MANY]) {
    const damaged = Buffer.from(head);
    damaged[300]! ^= 1;
    await t.rejects(images.ask(at(damaged), IMAGE), { code: 'INDEX_INVALID' });
  }
});

t.test('a process that ends takes one layer with it, and no other', async (t) => {
  const { images, at } = made(t);
  // No such question: a bug there, as a layer that takes all memory.
  const bad = { type: 'outline', paths: undefined as unknown as ByteString[] } as const;
  const [first, ended, last] = await Promise.allSettled([
    images.ask(at(MANY), IMAGE),
    images.ask(at(MANY), bad),
    images.ask(at(MANY), IMAGE),
  ]);
  t.equal(first.status, 'fulfilled');
  t.equal(last.status, 'fulfilled');
  t.ok(ended.status === 'rejected' && isCoded(ended.reason, 'LAYER_NOT_LAZY'));
  t.match(ended, { reason: { message: /ended with/ } });
});

t.test('what the disk refuses is told as such: it says nothing of a layer', async (t) => {
  const { images, at, left } = made(t);
  await images.ask(at(MANY), IMAGE);
  const inTheWay = join(t.testdirName, 'layers', 'made-image-0');
  mkdirSync(inTheWay);
  await t.rejects(images.ask(at(MANY), IMAGE), {
    code: 'MEMBER_BUSY',
    message: /cannot be made now: .*made-image-0/,
  });
  rmdirSync(inTheWay);
  await images.ask(at(MANY), IMAGE);
  t.same(left(), []);
  writeFileSync(join(t.testdirName, 'file'), '');
  const nowhere = new ImageProcess(join(t.testdirName, 'file', 'layers'));
  const asked = [at(MANY), at(MANY)].map(async (index) => await nowhere.ask(index, IMAGE));
  for (const { status, reason } of (await Promise.allSettled(asked)) as PromiseRejectedResult[])
    t.match(
      { status, reason },
      { status: 'rejected', reason: { code: 'MEMBER_BUSY', message: /not be started: ENOTDIR/ } },
    );
});

t.test('many at once: each gets its own, whichever process made it', async (t) => {
  const { images, at } = made(t);
  // Two questions about each: more than enough for a second process to start.
  const heads = Array.from({ length: 8 }, (_none, number) => indexOf(4_200 + 50 * number));
  const answers = await Promise.all(
    heads.map(async (head) => {
      const index = at(head);
      const [image, files] = await Promise.all([
        images.ask(index, IMAGE),
        images.ask(index, { type: 'files' }),
      ]);
      return { image, files };
    }),
  );
  for (const [number, { image, files }] of answers.entries()) {
    const right = answerFrom(heads[number]!, IMAGE);
    t.ok(Buffer.from(image.meta).equals(Buffer.from(right.meta)), `${number}`);
    t.same(image.extents.layer.length, right.extents.layer.length);
    t.equal(files.size, 4_200 + 50 * number);
  }
});

t.test('who waits at the end is told', async (t) => {
  const { images, at } = made(t);
  const waiting = images.ask(at(MANY), IMAGE);
  images.close();
  await t.rejects(waiting, { code: 'DRAINING' });
  await t.rejects(images.ask(at(FEW), IMAGE), { code: 'DRAINING' });
});

t.test('a job that hangs is given up, and the next one is done', { timeout: 120_000 }, async (t) => {
  const { images, at } = made(t, { jobMs: 15_000 });
  const pipe = join(t.testdir(), 'pipe');
  execFileSync('mkfifo', [pipe]);
  const { head } = at(MANY);
  const [hung, next] = await Promise.allSettled([
    images.ask({ file: pipe, head }, IMAGE),
    images.ask(at(MANY), IMAGE),
  ]);
  t.match(hung, { status: 'rejected', reason: { code: 'LAYER_NOT_LAZY', message: /take too long/ } });
  t.equal(next.status, 'fulfilled');
});
