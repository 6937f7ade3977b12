import { createHash } from 'node:crypto';
import { deflateRawSync } from 'node:zlib';
import { isCoded } from '@sepia/base/errors';
import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { imageOf, indexWithImage, type MadeImage, readImagePart } from '../../src/erofs/image-part.ts';
import { readIndexHead } from '../../src/index/layer-index.ts';
import { LayerIndexer } from '../../src/index/layer-indexer.ts';
import { arbitraryParts } from '../support/arbitrary-tar.ts';
import { writeTar } from '../support/tar-writer.ts';

const SUM_BYTES = 32;

function indexOf(tar: Buffer): Buffer {
  const indexer = new LayerIndexer({ spanBytes: 4096 });
  indexer.push(tar);
  return indexer.end().bytes;
}

/** What is behind an index, or undefined where it can have no image. */
function partOf(plain: Buffer): Buffer | undefined {
  try {
    const whole = indexWithImage(plain);
    return whole.subarray(plain.length);
  } catch (error) {
    if (!isCoded(error, 'LAYER_NOT_LAZY')) throw error;
    return undefined;
  }
}

/** The answer, or the code of the refusal. */
async function answerOf(part: Buffer, plain: Buffer): Promise<MadeImage | string | undefined> {
  try {
    return await readImagePart(part, readIndexHead(plain));
  } catch (error) {
    if (!isCoded(error, 'INDEX_INVALID')) throw error;
    return error.code;
  }
}

const SOME = indexOf(
  writeTar(
    Array.from({ length: 40 }, (_none, number) => ({
      name: `implied/folder-${number % 3}/file-${number}`,
      payload: Buffer.alloc(1 + 300 * number, number),
    })),
  ),
);

t.test(
  'the image behind an index is the one that its entries make, and no other reader sees it',
  async (t) => {
    await fc.assert(
      fc.asyncProperty(arbitraryParts(30), async (parts) => {
        const plain = indexOf(writeTar(parts));
        const part = partOf(plain);
        if (part === undefined) return;
        const made = imageOf(readIndexHead(plain));
        const read = (await readImagePart(part, readIndexHead(plain)))!;
        t.ok(Buffer.compare(read.meta, made.meta) === 0);
        t.same({ ...read, meta: undefined }, { ...made, meta: undefined });
        t.same(readIndexHead(Buffer.concat([plain, part])), readIndexHead(plain));
      }),
    );
  },
);

t.test('an index without an image, or with one of another layout, has none', async (t) => {
  t.equal(await readImagePart(Buffer.alloc(0), readIndexHead(SOME)), undefined);
  t.equal(await readImagePart(Buffer.alloc(500, 1), readIndexHead(SOME)), undefined);
  const part = Buffer.from(partOf(SOME)!);
  part.writeUInt32LE(77, 8);
  t.equal(await readImagePart(part, readIndexHead(SOME)), undefined);
});

t.test('whether an entry is a whiteout is said, unless it was made before that was', async (t) => {
  const plain = indexOf(writeTar([{ name: 'd/x' }, { name: 'd/.wh.y' }]));
  const part = partOf(plain)!;
  t.equal((await readImagePart(part, readIndexHead(plain)))?.hasWhiteouts, true);
  t.equal((await readImagePart(partOf(SOME)!, readIndexHead(SOME)))?.hasWhiteouts, false);
  const before = Buffer.from(part.subarray(0, -SUM_BYTES));
  before.writeUInt8(0, 48);
  const old = Buffer.concat([before, createHash('sha256').update(before).digest()]);
  const read = await readImagePart(old, readIndexHead(plain));
  t.ok(read !== undefined && read.hasWhiteouts === undefined);
});

t.test('an image whose superblock leads to no root is none: who has it makes it anew', async (t) => {
  const names = Array.from({ length: 120 }, (_none, number) => ({ name: `${number}`.padStart(20, 'n') }));
  const plain = indexOf(writeTar(names));
  const part = partOf(plain)!;
  const made = (await readImagePart(part, readIndexHead(plain)))!;
  t.equal(made.meta.readUInt16LE(1024 + 14), 128, 'its root is behind the first block');
  const meta = Buffer.from(made.meta);
  meta.writeUInt16LE(36, 1024 + 14);
  const stored = deflateRawSync(meta);
  const header = Buffer.from(part.subarray(0, 64));
  const storedBefore = Number(header.readBigUInt64LE(24));
  header.writeBigUInt64LE(BigInt(stored.length), 24);
  const old = [header, stored, part.subarray(64 + storedBefore, -SUM_BYTES)];
  const sum = createHash('sha256').update(Buffer.concat(old)).digest();
  t.equal(await readImagePart(Buffer.concat([...old, sum]), readIndexHead(plain)), undefined);
});

t.test('a damaged image is none, or refused', async (t) => {
  const part = partOf(SOME)!;
  await fc.assert(
    fc.asyncProperty(fc.nat(part.length - 1), fc.integer({ min: 1, max: 255 }), async (at, bits) => {
      const damaged = Buffer.from(part);
      damaged[at]! ^= bits;
      const answer = await answerOf(damaged, SOME);
      t.equal(answer, at < 12 ? undefined : 'INDEX_INVALID', `byte ${at}`);
    }),
  );
  t.equal(await answerOf(part.subarray(0, -1), SOME), 'INDEX_INVALID');
  t.equal(await answerOf(Buffer.concat([part, Buffer.alloc(1)]), SOME), 'INDEX_INVALID');
});

t.test(
  'what is wrong under a right checksum is refused, or an image whose files lie in the layer',
  async (t) => {
    const part = partOf(SOME)!;
    const { uncompressedBytes } = readIndexHead(SOME);
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.nat(part.length - SUM_BYTES - 1), fc.nat(255)), { minLength: 1, maxLength: 4 }),
        async (changes) => {
          const forged = Buffer.from(part);
          for (const [at, byte] of changes) forged[at] = byte;
          createHash('sha256')
            .update(forged.subarray(0, -SUM_BYTES))
            .digest()
            .copy(forged, part.length - SUM_BYTES);
          const answer = await answerOf(forged, SOME);
          if (answer === undefined || typeof answer === 'string') return true;
          const { layer, length } = answer.extents;
          return layer.every((from, at) => from >= 0 && from + length[at]! <= uncompressedBytes);
        },
      ),
    );
    t.pass();
  },
);

t.test('an image that would make the index too long is left out', async (t) => {
  const plain = indexOf(
    writeTar(
      Array.from({ length: 52_000 }, (_none, number) => ({
        name: `${number}`.padStart(250, 'x'),
        payload: Buffer.alloc(0),
      })),
    ),
  );
  t.equal(partOf(plain)!.length, 0);
});
