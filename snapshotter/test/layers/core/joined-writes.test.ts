import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { joinedWrites } from '../../../src/layers/core/joined-writes.ts';
import { IMAGE_BLOCK, Presence } from '../../../src/layers/core/presence.ts';

const MIB = 1024 * 1024;

interface Layout {
  readonly presence: Presence;
  readonly imageBytes: number;
  readonly spanBytes: number;
  readonly spans: number;
}

/** Files of these sizes, each so far behind the end of the one before. */
function layoutOf(files: readonly { size: number; gap: number }[], spanBytes: number): Layout {
  const columns = { image: [] as number[], layer: [] as number[], length: [] as number[] };
  let imageBytes = IMAGE_BLOCK;
  let end = 0;
  let uncompressedBytes = 1;
  for (const { size, gap } of files) {
    const layer = end + gap;
    columns.image.push(imageBytes);
    columns.layer.push(layer);
    columns.length.push(size);
    imageBytes += Math.ceil(size / IMAGE_BLOCK) * IMAGE_BLOCK;
    end = layer + size;
    uncompressedBytes = Math.max(uncompressedBytes, end);
  }
  const spans = Math.ceil(uncompressedBytes / spanBytes);
  const { image, layer, length } = columns;
  const presence = new Presence(
    {
      spanOffsets: Float64Array.from({ length: spans }, (_none, span) => span * spanBytes),
      uncompressedBytes,
      extents: {
        image: Float64Array.from(image),
        layer: Float64Array.from(layer),
        length: Float64Array.from(length),
      },
      metaBytes: IMAGE_BLOCK,
      imageBytes,
    },
    new SharedArrayBuffer(Presence.blockBytes(imageBytes)),
  );
  return { presence, imageBytes, spanBytes, spans };
}

function bytesOf(span: number, { spanBytes }: Layout): Uint8Array {
  return Uint8Array.from({ length: spanBytes }, (_none, at) => 1 + ((span * spanBytes + at) % 251));
}

/** The image after spans came in this order, and how many writes that took. */
function written(
  layout: Layout,
  order: readonly number[],
  isJoined: boolean,
): { image: Uint8Array; writes: number } {
  const image = new Uint8Array(layout.imageBytes);
  let writes = 0;
  for (const span of order) {
    const bytes = bytesOf(span, layout);
    const placements = layout.presence.placements(span);
    const plain = placements.map(({ from, to, length }) => ({
      to,
      bytes: bytes.subarray(from, from + length),
    }));
    for (const one of isJoined ? joinedWrites(placements, bytes) : plain) {
      image.set(one.bytes, one.to);
      writes += 1;
    }
  }
  return { image, writes };
}

const layouts = fc
  .tuple(
    fc.array(fc.record({ size: fc.integer({ min: 1, max: 9000 }), gap: fc.integer({ min: 0, max: 1500 }) }), {
      maxLength: 14,
    }),
    fc.integer({ min: 300, max: 20_000 }),
  )
  .map(([files, spanBytes]) => layoutOf(files, spanBytes));

t.test('the image is the same as piece by piece, whatever comes first', async (t) => {
  fc.assert(
    fc.property(layouts, fc.array(fc.nat(), { maxLength: 30 }), (layout, picks) => {
      const order = picks.map((pick) => pick % layout.spans);
      const [joined, plain] = [written(layout, order, true), written(layout, order, false)];
      return Buffer.compare(joined.image, plain.image) === 0 && joined.writes <= plain.writes;
    }),
  );
  t.pass();
});

t.test('small files of a span are one write; more than a MiB of the image is cut', async (t) => {
  const few = layoutOf(
    Array.from({ length: 100 }, () => ({ size: 700, gap: 512 })),
    200_000,
  );
  t.equal(written(few, [0], false).writes, 100);
  t.equal(written(few, [0], true).writes, 1);
  const many = layoutOf(
    Array.from({ length: 800 }, () => ({ size: 700, gap: 512 })),
    MIB,
  );
  t.equal(written(many, [0], true).writes, 4, '800 blocks');
});

t.test('what has a hole before it is another write', async (t) => {
  const writes = joinedWrites(
    [
      { from: 0, to: 0, length: 10 },
      { from: 10, to: 10 + IMAGE_BLOCK, length: 10 },
      { from: 20, to: 2 * IMAGE_BLOCK, length: 10 },
    ],
    new Uint8Array(30),
  );
  t.strictSame(
    writes.map(({ to, bytes }) => [to, bytes.length]),
    [
      [0, 10],
      [10 + IMAGE_BLOCK, IMAGE_BLOCK],
    ],
  );
});

t.test('pieces of files that share bytes are refused', async (t) => {
  t.throws(() => joinedWrites([{ from: 5, to: 0, length: -2 }], new Uint8Array(30)), RangeError);
});
