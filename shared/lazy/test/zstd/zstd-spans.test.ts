import { createHash } from 'node:crypto';
import { constants, zstdCompressSync } from 'node:zlib';
import { isCoded } from '@sepia/base/errors';
import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { resumeZstd, type ZstdSpan, ZstdSpans } from '../../src/zstd/zstd-spans.ts';
import { arbitraryData, noise } from '../support/arbitrary-gzip.ts';
import { arbitraryCuts, cutAt } from '../support/arbitrary-tar.ts';

const SMALL = { spanBytes: 10_000, maxSpanBytes: 200_000 };

function spansOf(blob: Buffer, cuts: readonly number[] = []): { spans: ZstdSpan[]; data: Buffer } {
  const spans: ZstdSpan[] = [];
  const data: Buffer[] = [];
  const reader = new ZstdSpans(
    { output: (bytes) => void data.push(Buffer.from(bytes)), span: (span) => void spans.push(span) },
    SMALL,
  );
  for (const chunk of cutAt(blob, cuts)) reader.push(chunk);
  reader.end();
  return { spans, data: Buffer.concat(data) };
}

/** A skippable frame (RFC 8878, 3.1.2). */
function skippable(length: number): Buffer {
  const head = Buffer.alloc(8);
  head.writeUInt32LE(0x184d2a55, 0);
  head.writeUInt32LE(length, 4);
  return Buffer.concat([head, Buffer.alloc(length, 7)]);
}

const arbitraryFrame = fc
  .tuple(arbitraryData(40_000), fc.constantFrom(1, 3, 9), fc.boolean(), fc.nat(3))
  .map(([data, level, hasChecksum, skip]) => {
    const params = {
      [constants.ZSTD_c_compressionLevel]: level,
      [constants.ZSTD_c_checksumFlag]: hasChecksum ? 1 : 0,
      [constants.ZSTD_c_contentSizeFlag]: skip % 2,
    };
    const frame = zstdCompressSync(data, { params });
    return { data, blob: skip === 3 ? Buffer.concat([frame, skippable(100)]) : frame };
  });

const arbitraryZstd = fc.array(arbitraryFrame, { minLength: 1, maxLength: 8 }).map((frames) => ({
  blob: Buffer.concat(frames.map((one) => one.blob)),
  data: Buffer.concat(frames.map((one) => one.data)),
}));

t.test('every span of a blob is read alone', async (t) => {
  await fc.assert(
    fc.asyncProperty(arbitraryZstd, arbitraryCuts, async ({ blob, data }, cuts) => {
      const found = spansOf(blob, cuts);
      t.ok(found.data.equals(data));
      let offset = 0;
      for (const [index, span] of found.spans.entries()) {
        t.equal(span.offset, offset);
        offset += span.length;
        const end = found.spans[index + 1]?.compressedOffset ?? blob.length;
        const bytes = await resumeZstd(blob.subarray(span.compressedOffset, end), span.length);
        t.ok(bytes.equals(data.subarray(span.offset, offset)));
        t.ok(createHash('sha256').update(bytes).digest().equals(span.sha256));
      }
      t.equal(offset, data.length);
    }),
    { numRuns: 60 },
  );
});

t.test('damaged blobs are refused by code', async (t) => {
  let refused = 0;
  fc.assert(
    fc.property(arbitraryZstd, fc.nat(), fc.nat(255), arbitraryCuts, ({ blob }, at, value, cuts) => {
      blob[at % blob.length] = value;
      try {
        spansOf(blob, cuts);
      } catch (error) {
        if (!isCoded(error, 'LAYER_INVALID') && !isCoded(error, 'LAYER_NOT_LAZY')) throw error;
        refused += 1;
      }
    }),
    { numRuns: 150 },
  );
  t.ok(refused > 10);
});

t.test('one long frame is not lazy, by name; a cut one is no frame', async (t) => {
  const blob = zstdCompressSync(Buffer.alloc(300_000));
  t.throws(() => spansOf(blob), { code: 'LAYER_NOT_LAZY', detail: { reason: 'zstd-frame-too-long' } });
  const long = zstdCompressSync(noise(5, 400_000));
  t.throws(() => spansOf(long, [0.3, 0.6]), { code: 'LAYER_NOT_LAZY' });
  const short = zstdCompressSync(noise(5, 1000));
  for (const cut of [1, 3, 4, 5, 7, 500, short.length - 1])
    t.throws(() => spansOf(short.subarray(0, cut)), { code: 'LAYER_INVALID' }, String(cut));
});

t.test('a small frame with any byte flipped is refused by code, or another content', async (t) => {
  const bytes = Buffer.from('content '.repeat(500));
  const frame = zstdCompressSync(bytes);
  for (let at = 0; at < frame.length; at += 1) {
    const flipped = Buffer.from(frame);
    flipped[at] = flipped[at]! ^ 1;
    try {
      spansOf(flipped);
    } catch (error) {
      t.ok(isCoded(error, 'LAYER_INVALID') || isCoded(error, 'LAYER_NOT_LAZY'), `byte ${at}: ${error}`);
    }
  }
});
