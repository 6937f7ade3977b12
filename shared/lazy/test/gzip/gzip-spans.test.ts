import { createHash } from 'node:crypto';
import { gzipSync, inflateRawSync } from 'node:zlib';
import { isCoded } from '@sepia/base/errors';
import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { type GzipSpan, GzipSpans } from '../../src/gzip/gzip-spans.ts';
import { Inflater } from '../../src/gzip/inflater.ts';
import { resumeGzip } from '../../src/gzip/resume.ts';
import type { SpanBounds } from '../../src/span-bounds.ts';
import {
  arbitraryData,
  arbitraryDeflate,
  arbitraryGzip,
  noise,
  rawDeflate,
} from '../support/arbitrary-gzip.ts';
import { arbitraryCuts, cutAt } from '../support/arbitrary-tar.ts';

const SMALL: SpanBounds = { spanBytes: 20_000, maxSpanBytes: 64 * 1024 * 1024 };

function spansOf(
  blob: Buffer,
  cuts: readonly number[] = [],
  options = SMALL,
): { spans: GzipSpan[]; data: Buffer } {
  const spans: GzipSpan[] = [];
  const data: Buffer[] = [];
  const reader = new GzipSpans(
    { output: (bytes) => void data.push(Buffer.from(bytes)), span: (span) => void spans.push(span) },
    options,
  );
  for (const chunk of cutAt(blob, cuts)) reader.push(chunk);
  reader.end();
  return { spans, data: Buffer.concat(data) };
}

function compressedOf(blob: Buffer, spans: readonly GzipSpan[], index: number): Buffer {
  const next = spans[index + 1];
  const end = next === undefined ? blob.length : Math.ceil(next.compressedBit / 8);
  return blob.subarray(Math.floor(spans[index]!.compressedBit / 8), end);
}

t.test('every span of a blob is read alone, bit-exact, whatever made the blob', async (t) => {
  const bits = new Set<number>();
  let spanCount = 0;
  await fc.assert(
    fc.asyncProperty(arbitraryGzip(400_000), arbitraryCuts, async ({ blob, data }, cuts) => {
      const found = spansOf(blob, cuts);
      t.ok(found.data.equals(data), 'the whole is right');
      let offset = 0;
      for (const [index, span] of found.spans.entries()) {
        if (span.offset !== offset) throw new Error('spans are not adjacent');
        offset += span.length;
        bits.add(span.compressedBit % 8);
        spanCount += 1;
        const bytes = await resumeGzip(span, compressedOf(blob, found.spans, index), span.length);
        if (!bytes.equals(data.subarray(span.offset, offset))) throw new Error(`span ${index} differs`);
        if (!createHash('sha256').update(bytes).digest().equals(span.sha256)) throw new Error('digest');
      }
      t.equal(offset, data.length);
    }),
    { numRuns: 60 },
  );
  t.ok(spanCount > 300, `${spanCount} spans`);
  t.equal(bits.size, 8, 'all places in a byte were seen');
});

t.test('the inflater says what zlib says, also of damaged streams', async (t) => {
  let both = 0;
  let refused = 0;
  fc.assert(
    fc.property(
      arbitraryData(8000),
      arbitraryDeflate,
      fc.array(fc.tuple(fc.nat(), fc.nat(7)), { maxLength: 2 }),
      arbitraryCuts,
      (data, options, flips, cuts) => {
        const stream = rawDeflate(data, options);
        for (const [at, bit] of flips) stream[at % stream.length]! ^= 1 << bit;
        const expected = answerOf(() => inflateRawSync(stream));
        const found = answerOf(() => inflate(stream, cuts));
        if (expected === undefined) refused += 1;
        else both += 1;
        t.equal(found?.toString('hex'), expected?.toString('hex'));
      },
    ),
    { numRuns: 500 },
  );
  t.ok(both > 50 && refused > 50, `${both} accepted, ${refused} refused`);
});

/** undefined where the stream is refused; anything but a refusal is thrown. */
function answerOf(run: () => Buffer): Buffer | undefined {
  try {
    return run();
  } catch (error) {
    const isZlib = (error as { code?: string }).code?.startsWith('Z_') === true;
    if (!isZlib && !isCoded(error, 'LAYER_INVALID')) throw error;
    return undefined;
  }
}

function inflate(stream: Buffer, cuts: readonly number[]): Buffer {
  const data: Buffer[] = [];
  const inflater = new Inflater({
    output: (bytes) => void data.push(Buffer.from(bytes)),
    block: () => undefined,
    reach: () => undefined,
  });
  inflater.restart();
  for (const chunk of cutAt(stream, cuts)) {
    inflater.feed(chunk);
    inflater.run();
  }
  inflater.finish();
  inflater.run();
  return Buffer.concat(data);
}

t.test('damaged blobs are refused by code, and a span never gives other bytes unseen', async (t) => {
  await fc.assert(
    fc.asyncProperty(
      arbitraryGzip(60_000),
      fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 3 }),
      async ({ blob, data }, flips) => {
        const { spans } = spansOf(blob);
        const bad = Buffer.from(blob);
        for (const [at, value] of flips) bad[at % bad.length] = value;
        try {
          spansOf(bad);
        } catch (error) {
          if (!isCoded(error, 'LAYER_INVALID')) throw error;
        }
        for (const [index, span] of spans.entries()) {
          try {
            const bytes = await resumeGzip(span, compressedOf(bad, spans, index), span.length);
            const isRight = bytes.equals(data.subarray(span.offset, span.offset + span.length));
            t.equal(createHash('sha256').update(bytes).digest().equals(span.sha256), isRight);
          } catch (error) {
            if (!isCoded(error, 'LAYER_INVALID')) throw error;
          }
        }
      },
    ),
    { numRuns: 100 },
  );
});

t.test('a member that begins is a place to begin without a window', async (t) => {
  const members = Array.from({ length: 40 }, (_none, index) => noise(index, 11_000, 20));
  const blob = Buffer.concat(members.map((one) => gzipSync(one)));
  const { spans } = spansOf(blob);
  t.ok(spans.length > 10);
  t.ok(spans.every((span) => span.window.length === 0));
});

t.test('windows keep only what is referred to', async (t) => {
  const blob = gzipSync(noise(1, 400_000), { level: 6 });
  const { spans } = spansOf(blob);
  t.ok(spans.length > 3);
  t.ok(
    spans.every((span) => span.window.length < 32),
    'noise refers to nothing',
  );
});

t.test('a block without end is not lazy, by name', async (t) => {
  const blob = gzipSync(Buffer.alloc(3_000_000), { level: 9 });
  t.throws(() => spansOf(blob, [], { spanBytes: 1000, maxSpanBytes: 1_000_000 }), {
    code: 'LAYER_NOT_LAZY',
    detail: { reason: 'gzip-block-too-long' },
  });
  const empty = Buffer.from('000000ffff', 'hex');
  const member = gzipSync('');
  const flood = Buffer.concat([member.subarray(0, 10), ...Array.from({ length: 400_000 }, () => empty)]);
  t.throws(() => spansOf(flood, [0.1, 0.5], { spanBytes: 1000, maxSpanBytes: 1_000_000 }), {
    code: 'LAYER_NOT_LAZY',
  });
});

t.test('cut, wrong sum, wrong length, bytes after the end', async (t) => {
  const blob = gzipSync(noise(3, 50_000));
  const invalid = (bytes: Buffer): unknown => t.throws(() => spansOf(bytes), { code: 'LAYER_INVALID' });
  for (const cut of [0, 1, 5, 20, blob.length - 9, blob.length - 8, blob.length - 1])
    invalid(blob.subarray(0, cut));
  const changed = (at: number): Buffer => {
    const copy = Buffer.from(blob);
    copy[copy.length + at]! ^= 1;
    return copy;
  };
  invalid(changed(-8));
  invalid(changed(-4));
  invalid(Buffer.concat([blob, Buffer.alloc(3)]));
  t.same(spansOf(gzipSync('')), { spans: [], data: Buffer.alloc(0) });
});
