import { deflateRawSync, gzipSync } from 'node:zlib';
import { type Digest, digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { checkedIndex } from '../../src/index/check-index.ts';
import {
  type IndexToWrite,
  readIndexHead,
  readWindow,
  type SpanToWrite,
  writeIndex,
} from '../../src/index/layer-index.ts';
import { LayerIndexer } from '../../src/index/layer-indexer.ts';
import { noise } from '../support/arbitrary-gzip.ts';
import { arbitraryParts } from '../support/arbitrary-tar.ts';
import { writeTar } from '../support/tar-writer.ts';

const BOUNDS = { spanBytes: 4096, maxSpanBytes: 64 * 1024 };
const TAR = writeTar([
  { name: 'a', payload: noise(1, 9_000, 12) },
  { name: 'b', payload: noise(2, 30_000, 40) },
  { name: 'c', payload: noise(1, 9_000, 12) },
]);
const LAYER = packed(TAR);

function packed(tar: Buffer): Buffer {
  return gzipSync(tar, { memLevel: 1 });
}

function made(layer: Buffer, spanBytes = BOUNDS.spanBytes): Buffer {
  const indexer = new LayerIndexer({ spanBytes });
  indexer.push(layer);
  return indexer.end().bytes;
}

/** An index as it is written anew, with something else in it. */
function other(bytes: Buffer, change: (index: IndexToWrite) => IndexToWrite): Buffer {
  const {
    kind: _kind,
    sources: _sources,
    headBytes: _head,
    indexBytes: _length,
    ...index
  } = readIndexHead(bytes);
  const spans = index.spans.map(({ windowOffset, windowLength, windowCrc: _crc, ...span }): SpanToWrite => {
    return { ...span, window: bytes.subarray(windowOffset, windowOffset + windowLength) };
  });
  return writeIndex(change({ ...index, spans }));
}

async function check(layer: Buffer, offer: Buffer, hears = {}, bounds = BOUNDS): Promise<Buffer> {
  const read = async (offset: number, length: number): Promise<Buffer> =>
    layer.subarray(offset, offset + length);
  const digest = digestOf(layer);
  const blob = { digest, sizeBytes: layer.length, read };
  const all = {
    ...{ onUnpacked: () => undefined, onLarge: async () => undefined, onShare: () => undefined },
    ...{ signal: new AbortController().signal, ...hears },
  };
  const index = await checkedIndex(blob, offer, all, bounds);
  const { layer: of, diffId } = readIndexHead(index.bytes);
  t.match(index, { layer: of, diffId, compression: 'gzip' });
  return index.bytes;
}

t.test('what was offered by the same maker comes out as it was', async (t) => {
  await fc.assert(
    fc.asyncProperty(arbitraryParts(30), fc.nat(3), async (parts, cuts) => {
      const tar = writeTar(parts);
      // One member, or several.
      const at = Array.from({ length: cuts }, (_none, index) =>
        Math.floor((tar.length * (index + 1)) / (cuts + 1)),
      );
      const members = [0, ...at].map((from, index) => packed(tar.subarray(from, at[index])));
      const layer = Buffer.concat(members);
      const offer = made(layer);
      const unpacked: number[] = [];
      const onUnpacked = (bytes: number): void => void unpacked.push(bytes);
      const found = await check(layer, offer, { onUnpacked });
      t.ok(found.equals(offer));
      t.equal(
        unpacked.reduce((sum, bytes) => sum + bytes, 0),
        tar.length,
      );
    }),
    { numRuns: 40 },
  );
});

t.test('of an offer nothing but its places is believed', async (t) => {
  const offer = made(LAYER);
  t.ok(readIndexHead(offer).spans.length > 3);
  const lying = other(offer, (index) => ({ ...index, entries: [] }));
  t.ok((await check(LAYER, lying)).equals(offer), 'entries come from the layer');
  const behind = Buffer.concat([offer, Buffer.from('an image of somebody')]);
  t.ok((await check(LAYER, behind)).equals(offer), 'what stands behind it is left out');
  // Wider spans are as good.
  const wide = made(LAYER, 8192);
  t.ok((await check(LAYER, wide)).equals(wide));
});

t.test('an offer that does not fit is refused, whoever signed its checksum', async (t) => {
  const offer = made(LAYER);
  const span = (number: number, change: (span: SpanToWrite) => object) =>
    other(offer, (index) => ({
      ...index,
      spans: index.spans.map((one, at) => (at === number ? { ...one, ...change(one) } : one)),
    }));
  const wrong = { code: 'DIGEST_MISMATCH' };
  const [zeros, digest] = [Buffer.alloc(32), digestOf(Buffer.from('other')) as Digest];
  await t.rejects(
    check(
      LAYER,
      span(1, () => ({ sha256: zeros })),
    ),
    wrong,
    'a sum',
  );
  await t.rejects(
    check(
      LAYER,
      other(offer, (index) => ({ ...index, diffId: digest })),
    ),
    wrong,
    'a diffID',
  );
  const shorter = other(offer, (index) => {
    const last = index.spans.at(-1)!.length;
    return { ...index, entries: [], spans: index.spans.slice(0, -1), uncompressedBytes: TAR.length - last };
  });
  await t.rejects(check(LAYER, shorter), wrong, 'less than the layer');

  const used = readIndexHead(offer).spans.findIndex((one) => one.windowLength > 0 && one.offset > 20_000);
  const at = readIndexHead(offer).spans[used]!;
  const window = readWindow(at, offer.subarray(at.windowOffset, at.windowOffset + at.windowLength));
  const changed = deflateRawSync(window.map((byte) => byte ^ 1));
  await t.rejects(
    check(
      LAYER,
      span(used, () => ({ window: changed })),
    ),
    { code: /DIGEST_MISMATCH|LAYER_INVALID/ },
    'a window',
  );
  const place = span(used, ({ compressedBit }) => ({ compressedBit: compressedBit + 1 }));
  await t.rejects(check(LAYER, place), { code: /DIGEST_MISMATCH|LAYER_INVALID/ }, 'a place');

  const foreign = { code: 'INDEX_INVALID', message: /of another layer/ };
  await t.rejects(check(packed(writeTar([{ name: 'x' }])), offer), foreign);
  const plain = new LayerIndexer(BOUNDS);
  plain.push(TAR);
  await t.rejects(check(TAR, plain.end().bytes), foreign, 'one of a layer that is not compressed');
  await t.rejects(check(LAYER, offer.subarray(0, -1)), { code: 'INDEX_INVALID', message: /cut short/ });
  await t.rejects(check(LAYER, made(LAYER, 512)), { code: 'INDEX_INVALID', message: /length of a span/ });
  const narrow = { ...BOUNDS, maxSpanBytes: 2048 };
  await t.rejects(check(LAYER, offer, {}, narrow), { code: 'INDEX_INVALID', message: /length of a span/ });
  const trailing = Buffer.concat([LAYER, Buffer.from('no member')]);
  const beyond = other(offer, (index) => ({
    ...index,
    layer: digestOf(trailing),
    compressedBytes: trailing.length,
  }));
  await t.rejects(check(trailing, beyond), { code: 'LAYER_INVALID' }, 'bytes behind the last member');
});

t.test('who hears may end it; room is asked for once, where a layer is large', async (t) => {
  const offer = made(LAYER);
  const tooMany = new CodedError('MANIFEST_SYNTAX');
  const stop = {
    onUnpacked: () => {
      throw tooMany;
    },
  };
  await t.rejects(check(LAYER, offer, stop), tooMany);
  const large = packed(writeTar(Array.from({ length: 100_100 }, (_none, at) => ({ name: `f${at}` }))));
  const asked: string[] = [];
  const bounds = { spanBytes: 1024 * 1024, maxSpanBytes: 16 * 1024 * 1024 };
  const onLarge = async (): Promise<void> => void asked.push('room');
  t.ok((await check(large, made(large, bounds.spanBytes), { onLarge }, bounds)).length > 0);
  t.same(asked, ['room']);
});

t.test('both readings of a layer tell how far they are, and end when they shall', async (t) => {
  const offer = made(LAYER);
  const shares: number[] = [];
  await check(LAYER, offer, { onShare: (share: number) => void shares.push(share) });
  t.same(
    shares,
    [...shares].sort((a, b) => a - b),
  );
  t.equal(shares.at(-1), 1);
  t.ok(shares.filter((share) => share > 0.5).length > 3, 'each span is told');
  for (const at of [0, 0.6]) {
    const stop = new AbortController();
    const reason = new CodedError('DRAINING');
    let told = 0;
    const onShare = (share: number): void => {
      told += stop.signal.aborted ? 1 : 0;
      if (share > at) stop.abort(reason);
    };
    await t.rejects(check(LAYER, offer, { onShare, signal: stop.signal }), reason);
    t.equal(told, 0);
  }
});

t.test('what else waits has its turn while spans are read', async (t) => {
  const offer = made(LAYER);
  let turns = 0;
  let next = setImmediate(function turn() {
    turns += 1;
    next = setImmediate(turn);
  });
  let before = -1;
  const onShare = (share: number): void => {
    if (share <= 0.5) return;
    t.ok(turns > before, `${share}`);
    before = turns;
  };
  await check(LAYER, offer, { onShare });
  clearImmediate(next);
});
