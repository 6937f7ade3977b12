import { isCoded } from '@sepia/base/errors';
import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { layerTree, type TreeNode } from '../../src/erofs/layer-tree.ts';
import { layerEntry } from '../../src/index/layer-entry.ts';
import { COMPRESSORS } from '../../src/pack/unpack.ts';
import { encodeBootstrap } from '../../src/rafs/encode-bootstrap.ts';
import { withOciMarks } from '../../src/rafs/layer-marks.ts';
import { type ReadBootstrap, readBootstrap } from '../../src/rafs/read-bootstrap.ts';
import { tarEntries } from '../../src/tar/tar-reader.ts';
import { noise } from '../support/arbitrary-gzip.ts';
import { arbitraryParts } from '../support/arbitrary-tar.ts';
import { builtRafs, deviceOf, ownBootstrap } from '../support/build-rafs.ts';
import { plainTree } from '../support/plain-tree.ts';
import { type TarPart, writeTar } from '../support/tar-writer.ts';

/** Content of the files of a bootstrap, from the device that its blob is. */
function contentBy(bootstrap: ReadBootstrap, bytes: Buffer): (node: TreeNode) => string {
  const [blob] = bootstrap.blobs;
  const device = blob === undefined ? Buffer.alloc(0) : deviceOf(blob, bytes, bootstrap);
  return (node) =>
    bootstrap.chunks
      .get(node)!
      .map(({ offset, sizeBytes }) => device.toString('latin1', offset, offset + sizeBytes))
      .join('');
}

t.test('the bootstrap of a layer says what its tree says: random trees', async (t) => {
  let layers = 0;
  await fc.assert(
    fc.asyncProperty(arbitraryParts(30), fc.constantFrom(...COMPRESSORS), async (parts, compressor) => {
      const tar = writeTar(parts);
      const made = await builtRafs(tar, { compressor });
      if (typeof made === 'string') return;
      layers += 1;
      const bootstrap = ownBootstrap(made.built);
      const found = plainTree(bootstrap.root, contentBy(bootstrap, made.blob));
      const outside = new Map();
      const tree = withOciMarks(layerTree(tarEntries(tar).map(layerEntry), outside));
      t.strictSame(
        found,
        plainTree(tree, (node) => tar.toString('latin1', node.offset, node.offset + node.size)),
      );
      t.same(made.built.outside, [...outside]);
    }),
    { numRuns: 100 },
  );
  t.ok(layers > 30, `${layers} layers`);
});

const PARTS: TarPart[] = [
  { name: 'd/', typeFlag: '5', mode: 0o755, uid: 3_000_000, mtimeSec: 1_700_000_000, mtimeNsec: 5 },
  { name: 'd/a', payload: noise(1, 9000), mode: 0o4755, xattrs: new Map([['user.x', Uint8Array.of(1, 2)]]) },
  { name: 'd/b', typeFlag: '1', linkName: 'd/a', mode: 0o4755 },
  { name: 'd/c', payload: Buffer.from('text '.repeat(2000)) },
  { name: 'd/l', typeFlag: '2', linkName: 'a' },
  { name: 'null', typeFlag: '3', devMajor: 1, devMinor: 3 },
  { name: 'd/.wh.gone' },
];

async function made(
  parts: readonly TarPart[],
): Promise<{ blob: Buffer; bootstrap: ReadBootstrap; bytes: Buffer }> {
  const one = await builtRafs(writeTar(parts));
  if (typeof one === 'string') throw new Error(one);
  const bootstrap = ownBootstrap(one.built);
  return { blob: one.blob, bootstrap, bytes: encodeBootstrap(bootstrap) };
}

t.test('what was read and is written again is the same', async (t) => {
  const { bytes } = await made(PARTS);
  t.ok(encodeBootstrap(readBootstrap(bytes)).equals(bytes));
  const { root, chunks, blobs } = readBootstrap(bytes);
  t.equal(blobs.length, 1);
  t.same([...chunks.values()].map((own) => own.length).sort(), [0, 3, 3]);
  t.equal([...root.children!.keys()].sort().join(), 'd,null');
});

t.test('a bootstrap with prefetched files names them', async (t) => {
  const { bootstrap } = await made(PARTS);
  const node = bootstrap.root.children!.get('d' as never)!.children!.get('c' as never)!;
  const again = readBootstrap(encodeBootstrap({ ...bootstrap, prefetch: [node] }));
  t.equal(again.prefetch[0], again.root.children!.get('d' as never)!.children!.get('c' as never));
});

t.test('bytes that are no bootstrap are named, whatever they are', async (t) => {
  const { bytes } = await made(PARTS);
  const change = fc.record({
    at: fc.oneof(
      fc.nat(bytes.length - 1),
      fc.integer({ min: 1024, max: 1700 }),
      fc.integer({ min: 12_288, max: 13_500 }),
    ),
    value: fc.nat(255),
  });
  let refused = 0;
  fc.assert(
    fc.property(
      fc.array(change, { minLength: 1, maxLength: 6 }),
      fc.option(fc.nat(bytes.length)),
      (changes, cut) => {
        const wrong = Buffer.from(cut === null ? bytes : bytes.subarray(0, cut));
        for (const { at, value } of changes) if (at < wrong.length) wrong[at] = value;
        try {
          readBootstrap(wrong);
        } catch (error) {
          if (!isCoded(error, 'LAYER_INVALID')) throw error;
          refused += 1;
        }
      },
    ),
    { numRuns: 2000 },
  );
  t.ok(refused > 500, `${refused} refused`);
  t.throws(() => readBootstrap(Buffer.alloc(8192)), { code: 'LAYER_INVALID', message: /no EROFS magic/ });
  t.throws(() => readBootstrap(Buffer.alloc(100)), { code: 'LAYER_INVALID', message: /not whole blocks/ });
});

t.test('what a bootstrap must not say is named', async (t) => {
  const { bytes } = await made(PARTS);
  const meta = bytes.readUInt32LE(1064) * 4096;
  const root = meta + 4096;
  const chunkTable = Number(bytes.readBigUInt64LE(1152 + 24));
  const cases: [string, number, number, RegExp][] = [
    ['a checksum', 1028, 1, /has a checksum/],
    ['blocks of 512 bytes', 1036, 9, /4096 bytes/],
    ['two compressors', 1152, 0xc0, /not one of none, gzip, zstd and LZ4/],
    ['two digests', 1152, 0x8c, /not one of SHA-256 and BLAKE3/],
    ['digests that its blob does not have', 1152, 0x84, /other digests/],
    ['chunks of another size', 1152 + 21, 3, /chunks of/],
    ['a blob table elsewhere', 1152 + 9, 1, /blob table/],
    ['a device of another length', 1408 + 64, 99, /another length/],
    ['a root that is a file', root + 5, 0x81, /layout that RAFS does not use/],
    ['a chunk outside of its blob', chunkTable + 51, 0xff, /does not lie in its blob/],
    ['a chunk of another blob', chunkTable + 32, 9, /not there/],
  ];
  for (const [name, at, value, message] of cases) {
    const wrong = Buffer.from(bytes);
    wrong[at] = value;
    t.throws(() => readBootstrap(wrong), { code: 'LAYER_INVALID', message }, name);
  }
  const blobTable = Number(bytes.readBigUInt64LE(1152 + 8));
  const many = Buffer.from(bytes);
  many.writeUInt32LE(4_000_001, blobTable + 72);
  many.writeBigUInt64LE(64_000_016n, blobTable + 128);
  t.throws(() => readBootstrap(many), { code: 'LAYER_INVALID', message: /more than 4000000 chunks/ });
  t.throws(() => readBootstrap(bytes, { maxInodes: 3 }), {
    code: 'LAYER_INVALID',
    message: /more than 3 inodes/,
  });
  t.equal(readBootstrap(bytes, { maxInodes: 9 }).blobs.length, 1);
});
