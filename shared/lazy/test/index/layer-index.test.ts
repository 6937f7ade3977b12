import { createHash } from 'node:crypto';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { digestOf } from '@sepia/base/digest';
import { isCoded } from '@sepia/base/errors';
import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { layerEntry } from '../../src/index/layer-entry.ts';
import {
  compressedRange,
  INDEX_HEADER_BYTES,
  indexHeadBytes,
  type LayerIndex,
  readIndexHead,
} from '../../src/index/layer-index.ts';
import { assertLayer, LayerIndexer } from '../../src/index/layer-indexer.ts';
import { readSpan, spansOf } from '../../src/index/read-span.ts';
import { tarEntries } from '../../src/tar/tar-reader.ts';
import { noise } from '../support/arbitrary-gzip.ts';
import { arbitraryCuts, arbitraryParts, cutAt } from '../support/arbitrary-tar.ts';
import { type TarPart, writeTar } from '../support/tar-writer.ts';

const SPAN = { spanBytes: 4096 };
type Packing = 'none' | 'gzip' | 'zstd';

function pack(tar: Buffer, packing: Packing): Buffer {
  if (packing === 'none') return tar;
  if (packing === 'gzip') return gzipSync(tar, { memLevel: 1 });
  const frames = [];
  for (let at = 0; at < tar.length; at += 3000) frames.push(zstdCompressSync(tar.subarray(at, at + 3000)));
  return Buffer.concat(frames);
}

function make(blob: Buffer, cuts: readonly number[] = []): { bytes: Buffer; index: LayerIndex } {
  const indexer = new LayerIndexer(SPAN);
  for (const chunk of cutAt(blob, cuts)) indexer.push(chunk);
  const made = indexer.end();
  const index = readIndexHead(made.bytes);
  assertLayer(made, { layer: digestOf(blob), diffId: index.diffId });
  return { bytes: made.bytes, index };
}

async function readAll(index: LayerIndex, bytes: Buffer, blob: Buffer): Promise<Buffer> {
  const parts = [];
  for (const [number, span] of index.spans.entries()) {
    const { start, end } = compressedRange(index, number);
    const window = bytes.subarray(span.windowOffset, span.windowOffset + span.windowLength);
    parts.push(await readSpan(index, number, blob.subarray(start, end), window));
  }
  return Buffer.concat(parts);
}

const packings = fc.constantFrom<Packing>('none', 'gzip', 'zstd');

t.test('an index tells all of a layer, and reads all of it span by span', async (t) => {
  await fc.assert(
    fc.asyncProperty(arbitraryParts(30), packings, arbitraryCuts, async (parts, packing, cuts) => {
      const tar = writeTar(parts);
      const blob = pack(tar, packing);
      const { bytes, index } = make(blob, cuts);
      t.equal(index.layer, digestOf(blob));
      t.equal(index.diffId, digestOf(tar));
      t.equal(index.compression, packing);
      t.equal(index.uncompressedBytes, tar.length);
      t.equal(index.indexBytes, bytes.length);
      t.equal(indexHeadBytes(bytes.subarray(0, INDEX_HEADER_BYTES)), index.headBytes);
      const plain = (one: object): object => ({ ...one, xattrs: undefined });
      const expected = tarEntries(tar).map(layerEntry);
      t.same(index.entries.map(plain), expected.map(plain));
      t.same(
        index.entries.map((one) => [...one.xattrs].map(([k, v]) => [k, Buffer.from(v).toString('hex')])),
        expected.map((one) => [...one.xattrs].map(([k, v]) => [k, Buffer.from(v).toString('hex')])),
      );
      t.ok((await readAll(index, bytes, blob)).equals(tar));
    }),
    { numRuns: 60 },
  );
});

t.test(
  'every changed byte of a head is seen; a head that lies behind a right checksum is refused by code',
  async (t) => {
    const tar = writeTar([
      { name: 'a', payload: noise(1, 9000), xattrs: new Map([['user.x', Buffer.from('y')]]) },
      { name: 'l', typeFlag: '2', linkName: 'a' },
      { name: 'c', typeFlag: '3', devMajor: 1, devMinor: 3 },
    ]);
    for (const packing of ['none', 'gzip', 'zstd'] as const) {
      const { bytes, index } = make(pack(tar, packing));
      for (let at = 0; at < index.headBytes; at++) {
        const changed = Buffer.from(bytes);
        changed[at]! ^= 1 << (at % 8);
        t.throws(() => readIndexHead(changed), { code: 'INDEX_INVALID' }, `${packing} byte ${at}`);
      }
      for (let cut = 0; cut < index.headBytes; cut += 7)
        t.throws(() => readIndexHead(bytes.subarray(0, cut)), { code: 'INDEX_INVALID' });
    }
    let refused = 0;
    fc.assert(
      fc.property(
        arbitraryParts(8),
        packings,
        fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 4 }),
        (parts, packing, flips) => {
          const { bytes, index } = make(pack(writeTar(parts), packing));
          for (const [at, value] of flips) bytes[at % index.headBytes] = value;
          const headBytes = Number(bytes.readBigUInt64LE(16) & 0xffffffn);
          if (headBytes >= 32 && headBytes <= bytes.length)
            createHash('sha256')
              .update(bytes.subarray(0, headBytes - 32))
              .digest()
              .copy(bytes, headBytes - 32);
          try {
            readIndexHead(bytes);
          } catch (error) {
            if (!isCoded(error, 'INDEX_INVALID')) throw error;
            refused += 1;
          }
        },
      ),
      { numRuns: 400 },
    );
    t.ok(refused > 100, `${refused} refused`);
  },
);

t.test('what an index could not give back is refused by name', async (t) => {
  const of = (part: TarPart): unknown => {
    try {
      make(writeTar([{ name: 'before' }, part], 'gnu'));
      return undefined;
    } catch (error) {
      if (!isCoded(error, 'LAYER_NOT_LAZY')) throw error;
      return error.detail['reason'];
    }
  };
  const out = 'entry-out-of-range';
  const latest = 2 ** 51 - 1;
  for (const mtimeSec of [latest, -latest]) t.equal(of({ name: 'x', mtimeSec }), undefined);
  for (const mtimeSec of [latest + 1, -latest - 1, 2 ** 53 - 1, 1 - 2 ** 53])
    t.equal(of({ name: 'x', mtimeSec }), out, `${mtimeSec}`);
  const device = { name: 'x', typeFlag: '3' };
  t.equal(of({ ...device, devMajor: -1 }), out);
  t.equal(of({ ...device, devMinor: -1 }), out);
  const path = (bytes: number): string => `${'d/'.repeat(bytes / 2)}f`;
  t.equal(of({ name: path(4094) }), undefined, 'what Linux opens');
  t.equal(of({ name: path(4096) }), out);
  t.equal(of({ name: path(16_382) }), out);
  t.equal(of({ name: path(16_384) }), 'name-not-possible', 'slow to find among others of its length');
  t.equal(of({ name: 'x', typeFlag: '1', linkName: path(4096) }), out);
  t.equal(of({ name: 'x', typeFlag: '1', linkName: path(16_384) }), 'name-not-possible');
  t.equal(
    of({ name: 'x', typeFlag: '2', linkName: path(4096) }),
    undefined,
    'any text, as far as an index goes',
  );
});

t.test('hard links whose name leads elsewhere where a part of it is a symbolic link', async (t) => {
  const of = (linkName: string): unknown => {
    try {
      make(writeTar([{ name: 'x', typeFlag: '1', linkName }]));
      return undefined;
    } catch (error) {
      if (!isCoded(error, 'LAYER_NOT_LAZY')) throw error;
      return error.detail['reason'];
    }
  };
  for (const name of ['s/../f', '../f', 's/..', 'f/', '..'])
    t.equal(of(name), 'hard-link-name-not-plain', name);
  for (const name of ['f', './d/./f', '/d//f', 'd..', '..d/f', 'd/...']) t.equal(of(name), undefined, name);
});

t.test('wrong bytes of a blob or of a window never come back as a span', async (t) => {
  const blob = gzipSync(writeTar([{ name: 'a', payload: noise(9, 60_000, 12) }]), { memLevel: 1 });
  const { bytes, index } = make(blob);
  t.ok(index.spans.length > 5 && index.spans.some((span) => span.windowLength > 0));
  await fc.assert(
    fc.asyncProperty(fc.nat(), fc.nat(7), fc.boolean(), async (at, bit, inWindow) => {
      const bad = Buffer.from(inWindow ? bytes : blob);
      const from = inWindow ? index.headBytes : 10;
      bad[from + (at % (bad.length - from))]! ^= 1 << bit;
      try {
        const all = await readAll(index, inWindow ? bad : bytes, inWindow ? blob : bad);
        t.equal(digestOf(all), index.diffId);
      } catch (error) {
        const codes = ['DIGEST_MISMATCH', 'LAYER_INVALID', 'INDEX_INVALID'] as const;
        if (!codes.some((code) => isCoded(error, code))) throw error;
      }
    }),
    { numRuns: 150 },
  );
});

t.test('ranges are covered by the spans that hold them', async (t) => {
  const blob = pack(writeTar([{ name: 'a', payload: noise(2, 50_000) }]), 'none');
  const { index } = make(blob);
  t.same(spansOf(index, 0, 1), { first: 0, last: 0 });
  t.same(spansOf(index, 4095, 2), { first: 0, last: 1 });
  t.same(spansOf(index, 4096, 8192), { first: 1, last: 2 });
  t.same(spansOf(index, index.uncompressedBytes - 1, 1), {
    first: index.spans.length - 1,
    last: index.spans.length - 1,
  });
});

t.test('what cannot be lazy is refused by name', async (t) => {
  const reasonOf = (blob: Buffer): unknown => {
    try {
      make(blob);
      return undefined;
    } catch (error) {
      if (!isCoded(error, 'LAYER_NOT_LAZY')) throw error;
      return error.detail['reason'];
    }
  };
  t.equal(reasonOf(writeTar([{ name: 's', typeFlag: 'S' }])), 'sparse-file');
  t.equal(reasonOf(writeTar([{ name: 's', typeFlag: '7' }])), 'unknown-entry-type');
  t.equal(reasonOf(writeTar([{ name: 's', uid: 2 ** 32 }])), 'owner-out-of-range');
  t.equal(reasonOf(writeTar([{ name: 's', uid: -1 }])), 'owner-out-of-range');
  t.equal(reasonOf(writeTar([{ name: 's', uid: 3_000_000 }])), undefined);
});

t.test('a head is small: what it takes for ten thousand files', async (t) => {
  const parts = Array.from({ length: 10_000 }, (_none, index) => ({
    name: `usr/lib/python3/dist-packages/module${Math.floor(index / 20)}/file${index % 20}.py`,
    mode: 0o644,
    mtimeSec: 1_700_000_000,
    payload: noise(index, 3000, 60),
  }));
  const blob = gzipSync(writeTar(parts), { level: 1 });
  const indexer = new LayerIndexer();
  indexer.push(blob);
  const index = readIndexHead(indexer.end().bytes);
  t.ok(index.headBytes <= 0.005 * blob.length, `${index.headBytes} of ${blob.length}`);
});

t.test('a layer full of attributes gets no index: they would be held in memory', async (t) => {
  const indexer = new LayerIndexer();
  const xattrs = new Map([['user.a', Buffer.alloc(1_000_000)]]);
  const part = writeTar([{ name: 'a', xattrs }]).subarray(0, -1024);
  for (let at = 0; at < 67; at += 1) indexer.push(part);
  t.throws(() => indexer.push(part), { code: 'LAYER_NOT_LAZY', detail: { reason: 'too-long-entries' } });
});
