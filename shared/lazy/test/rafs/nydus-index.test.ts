import { createHash } from 'node:crypto';
import { digestOf } from '@sepia/base/digest';
import { isCoded } from '@sepia/base/errors';
import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { layerTree } from '../../src/erofs/layer-tree.ts';
import { compressedRange, type LayerIndex, readIndexHead } from '../../src/index/layer-index.ts';
import { readSpan } from '../../src/index/read-span.ts';
import { encodeBootstrap } from '../../src/rafs/encode-bootstrap.ts';
import { mergeLayers } from '../../src/rafs/merge.ts';
import { blobIndex, NydusIndexer } from '../../src/rafs/nydus-index.ts';
import { type ReadBootstrap, readBootstrap } from '../../src/rafs/read-bootstrap.ts';
import { noise } from '../support/arbitrary-gzip.ts';
import { arbitraryParts } from '../support/arbitrary-tar.ts';
import { builtRafs, contentThrough, ownBootstrap, readBlob } from '../support/build-rafs.ts';
import { plainTree } from '../support/plain-tree.ts';
import { type TarPart, writeTar } from '../support/tar-writer.ts';

/** So many small files. */
function partsOf(count: number): TarPart[] {
  return Array.from({ length: count }, (_none, at) => ({ name: `f${at}`, payload: noise(at, 100) }));
}

interface Made {
  readonly bootstrap: ReadBootstrap;
  /** By id. */
  readonly blobs: ReadonlyMap<string, Buffer>;
}

const COMPRESSORS = ['none', 'gzip', 'zstd'] as const;
type How = (typeof COMPRESSORS)[number];
const LAYER = {
  layer: digestOf(Buffer.from('layer')),
  diffId: digestOf(Buffer.from('diffId')),
  sizeBytes: 1000,
};

/** An image of these layers; undefined where they make none. */
async function imageOf(layers: readonly (readonly TarPart[])[], compressor: How): Promise<Made | undefined> {
  const blobs = new Map<string, Buffer>();
  const parts = [];
  for (const layer of layers) {
    const made = await builtRafs(writeTar(layer), { compressor });
    if (typeof made === 'string') return undefined;
    const { digest, implied, outside } = made.built;
    blobs.set(digest.slice('sha256:'.length), made.blob);
    parts.push({
      bootstrap: ownBootstrap(made.built),
      ...{ implied: new Set(implied), outside: new Map(outside) },
    });
  }
  const merged = mergeLayers(parts, { chunkBytes: 4096, compressor, prioritized: [] });
  return 'unfit' in merged ? undefined : { bootstrap: readBootstrap(encodeBootstrap(merged)), blobs };
}

async function indexed({ bootstrap, blobs }: Made): Promise<{ bytes: Buffer; index: LayerIndex }> {
  const indexer = new NydusIndexer(bootstrap);
  for (const blob of bootstrap.blobs.toReversed())
    await readBlob(indexer, bootstrap, blob, blobs.get(blob.id)!);
  const sizes = new Map([...blobs].map(([id, bytes]) => [id, bytes.length]));
  const { bytes } = indexer.end(LAYER, sizes);
  return { bytes, index: readIndexHead(bytes) };
}

async function contentOf(index: LayerIndex, bytes: Buffer, blobs: Made['blobs']): Promise<Buffer> {
  const parts = [];
  for (const [number, span] of index.spans.entries()) {
    const { start, end } = compressedRange(index, number);
    const blob = blobs.get(index.sources[span.packed!.source]!.digest.slice('sha256:'.length))!;
    const window = bytes.subarray(span.windowOffset, span.windowOffset + span.windowLength);
    parts.push(await readSpan(index, number, blob.subarray(start, end), window));
  }
  return Buffer.concat(parts);
}

const EXAMPLE: readonly (readonly TarPart[])[] = [
  [
    { name: 'd/', typeFlag: '5', mode: 0o750, uid: 5, mtimeSec: 1_700_000_000 },
    {
      name: 'd/a',
      payload: noise(1, 30_000, 20),
      mode: 0o644,
      xattrs: new Map([['user.x', Buffer.from('y')]]),
    },
    { name: 'd/same', payload: noise(1, 30_000, 20) },
    { name: 'd/longer', payload: Buffer.concat([noise(1, 8192, 20), noise(7, 9000)]) },
    { name: 'd/gone', payload: noise(3, 200) },
    { name: 'd/hard', typeFlag: '1', linkName: 'd/a', mode: 0o644 },
    { name: 'd/link', typeFlag: '2', linkName: 'a' },
    { name: 'null', typeFlag: '3', devMajor: 1, devMinor: 3 },
    { name: 'pipe', typeFlag: '6' },
    { name: 'empty' },
  ],
  [
    { name: 'd/.wh.gone' },
    { name: 'd/b', payload: noise(4, 5000) },
    { name: 'd/a2', typeFlag: '1', linkName: 'd/b' },
  ],
];

for (const compressor of COMPRESSORS)
  t.test(`the index of a Nydus image tells its tree and reads its content: ${compressor}`, async (t) => {
    const made = (await imageOf(EXAMPLE, compressor))!;
    const { bytes, index } = await indexed(made);
    t.match(index, { ...LAYER, sizeBytes: undefined, kind: 'nydus-bootstrap', compression: 'chunks' });
    t.equal(index.compressedBytes, LAYER.sizeBytes);
    t.same(
      index.sources.map(({ digest }) => digest),
      [...made.blobs.keys()].map((id) => `sha256:${id}`),
    );
    const content = await contentOf(index, bytes, made.blobs);
    t.equal(content.length, index.uncompressedBytes);
    const after = plainTree(layerTree(index.entries), ({ offset, size }) =>
      content.subarray(offset, offset + size).toString('base64'),
    );
    t.strictSame(
      after,
      plainTree(
        made.bootstrap.root,
        contentThrough(made.bootstrap, (id) => made.blobs.get(id)!),
      ),
    );
    t.notOk('d/gone' in after);
    t.ok(index.spans.length < 12, `${index.spans.length} spans: chunks in a row are one`);
  });

t.test('random images: the same tree and content as the bootstrap has', async (t) => {
  let images = 0;
  const refused: string[] = [];
  await fc.assert(
    fc.asyncProperty(
      fc.array(arbitraryParts(15), { minLength: 1, maxLength: 3 }),
      fc.constantFrom(...COMPRESSORS),
      async (layers, compressor) => {
        const made = await imageOf(layers, compressor);
        fc.pre(made !== undefined);
        try {
          const { bytes, index } = await indexed(made);
          const content = await contentOf(index, bytes, made.blobs);
          const found = plainTree(layerTree(index.entries), ({ offset, size }) =>
            content.subarray(offset, offset + size).toString('base64'),
          );
          t.strictSame(
            found,
            plainTree(
              made.bootstrap.root,
              contentThrough(made.bootstrap, (id) => made.blobs.get(id)!),
            ),
          );
          images += 1;
        } catch (error) {
          if (!isCoded(error, 'LAYER_NOT_LAZY')) throw error;
          refused.push(String(error.detail['reason']));
          fc.pre(false);
        }
      },
    ),
    // Of so many images, whatever the seed: what is none, or is refused, is drawn again.
    { numRuns: 40 },
  );
  t.equal(images, 40);
  t.ok(refused.every((reason) => reason === 'whiteout-in-the-tree'));
});

t.test('a changed chunk is found when the index is made, and never comes out of it later', async (t) => {
  const made = (await imageOf(EXAMPLE, 'zstd'))!;
  const { bytes, index } = await indexed(made);
  const right = await contentOf(index, bytes, made.blobs);
  for (const [id, blob] of made.blobs) {
    const { packedBytes } = made.bootstrap.blobs.find((one) => one.id === id)!;
    for (let at = 0; at < packedBytes; at += 97) {
      const bad = Buffer.from(blob);
      bad[at]! ^= 1;
      const blobs = new Map([...made.blobs, [id, bad]]);
      const isMade = await indexed({ ...made, blobs }).then(
        () => true,
        (error: unknown) => !isCoded(error, 'LAYER_INVALID'),
      );
      t.notOk(isMade, `byte ${at}`);
      await contentOf(index, bytes, blobs).then(
        (all) => t.ok(all.equals(right), `a part that no file has: ${at}`),
        (error: unknown) => t.ok(isCoded(error, 'LAYER_INVALID') || isCoded(error, 'DIGEST_MISMATCH')),
      );
    }
  }
});

t.test(
  'heads of Nydus indexes: a changed byte is seen; behind a right checksum it is refused by code',
  async (t) => {
    const made = (await imageOf(EXAMPLE, 'gzip'))!;
    const { bytes, index } = await indexed(made);
    for (let at = 0; at < index.headBytes; at++) {
      const changed = Buffer.from(bytes);
      changed[at]! ^= 1 << (at % 8);
      t.throws(() => readIndexHead(changed), { code: 'INDEX_INVALID' }, `byte ${at}`);
    }
    let refused = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 4 }),
        fc.constantFrom(16, 256, index.headBytes),
        async (flips, within) => {
          const changed = Buffer.from(bytes);
          for (const [at, value] of flips) changed[at % within] = value;
          const headBytes = Number(changed.readBigUInt64LE(16) & 0xffffffn);
          if (headBytes >= 32 && headBytes <= changed.length)
            createHash('sha256')
              .update(changed.subarray(0, headBytes - 32))
              .digest()
              .copy(changed, headBytes - 32);
          try {
            const read = readIndexHead(changed);
            layerTree(read.entries);
            await contentOf(read, changed, made.blobs);
          } catch (error) {
            const codes = ['INDEX_INVALID', 'LAYER_NOT_LAZY', 'LAYER_INVALID', 'DIGEST_MISMATCH'] as const;
            const isTest = error instanceof TypeError && String(error.stack).includes('nydus-index.test');
            if (!isTest && !codes.some((code) => isCoded(error, code))) throw error;
            refused += 1;
          }
        },
      ),
      { numRuns: 500 },
    );
    t.ok(refused > 100, `${refused} refused`);
  },
);

t.test('a data blob has an index without content', async (t) => {
  const blob = { layer: digestOf(Buffer.from('blob')), sizeBytes: 77 };
  const index = readIndexHead(blobIndex(blob).bytes);
  t.match(index, { kind: 'nydus-blob', layer: blob.layer, diffId: blob.layer, compressedBytes: 77 });
  t.same([index.entries.length, index.spans.length, index.sources.length], [0, 0, 0]);
});

t.test('whatever a bootstrap says, it gives an index or a refusal by code', async (t) => {
  const bytes = encodeBootstrap((await imageOf(EXAMPLE, 'zstd'))!.bootstrap);
  const found = { read: 0, refused: 0 };
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(bytes.length - 1), fc.nat(255)), { minLength: 1, maxLength: 3 }),
      (flips) => {
        const changed = Buffer.from(bytes);
        for (const [at, value] of flips) changed[at] = value;
        try {
          new NydusIndexer(readBootstrap(changed));
          found.read += 1;
        } catch (error) {
          if (!isCoded(error, 'LAYER_INVALID') && !isCoded(error, 'LAYER_NOT_LAZY')) throw error;
          found.refused += 1;
        }
      },
    ),
    { numRuns: 1_000 },
  );
  t.ok(found.read > 50 && found.refused > 50, JSON.stringify(found));
});

t.test('chunks that are far longer than what they hold are spans of their own', async (t) => {
  const made = (await imageOf([partsOf(40)], 'none'))!;
  const { bootstrap } = made;
  const [blob] = bootstrap.blobs;
  const long = { ...blob!, packedBytes: 2 ** 40, compressor: 'zstd' as const };
  const chunks = new Map(
    [...bootstrap.chunks].map(([node, own]) => [node, own.map((chunk) => ({ ...chunk, blob: long }))]),
  );
  const indexer = new NydusIndexer({ ...bootstrap, blobs: [long], chunks });
  const [packedBytes, sizeBytes] = [1_000_000, 100];
  const infos = bootstrap.table.map((_chunk, index) => ({
    ...{ packedOffset: index * packedBytes, packedBytes, offset: index * 4096, sizeBytes },
  }));
  const take = indexer.content(long, infos);
  for (const index of infos.keys()) take(index, Buffer.alloc(sizeBytes));
  const index = readIndexHead(indexer.end(LAYER, new Map([[long.id, 2 ** 40]])).bytes);
  t.equal(index.uncompressedBytes, 4000);
  t.ok(index.spans.every(({ packed }) => packed!.bytes <= 2 * 1024 * 1024));
});

t.test('a tree that would hide or link what is not its own is not lazy', async (t) => {
  const parts: TarPart[] = [{ name: 'x', typeFlag: '3', devMajor: 0, devMinor: 0 }];
  const made = await builtRafs(writeTar(parts));
  if (typeof made === 'string') throw new Error(made);
  const bootstrap = ownBootstrap(made.built);
  t.throws(() => new NydusIndexer(bootstrap), {
    code: 'LAYER_NOT_LAZY',
    detail: { reason: 'whiteout-in-the-tree' },
  });
});
