import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { IMAGE_BLOCK, Presence, type PresenceLayout } from '../../../src/layers/core/presence.ts';
import { runsOf } from '../../../src/layers/core/runs.ts';

/** Files of these sizes in a tar, cut into spans of these lengths. */
function layoutOf(sizes: readonly number[], spanLengths: readonly number[]): PresenceLayout {
  const image: number[] = [];
  const layer: number[] = [];
  let imageAt = 2 * IMAGE_BLOCK;
  let layerAt = 0;
  for (const size of sizes) {
    layerAt += 512;
    image.push(imageAt);
    layer.push(layerAt);
    imageAt += Math.ceil(size / IMAGE_BLOCK) * IMAGE_BLOCK;
    layerAt += Math.ceil(size / 512) * 512;
  }
  const uncompressedBytes = layerAt + 1024;
  const spanOffsets = [0];
  for (let index = 0; ; index++) {
    const next = spanOffsets.at(-1)! + spanLengths[index % spanLengths.length]!;
    if (next >= uncompressedBytes) break;
    spanOffsets.push(next);
  }
  return {
    spanOffsets: Float64Array.from(spanOffsets),
    uncompressedBytes,
    extents: {
      image: Float64Array.from(image),
      layer: Float64Array.from(layer),
      length: Float64Array.from(sizes),
    },
    metaBytes: 2 * IMAGE_BLOCK,
    imageBytes: imageAt,
  };
}

const layouts = fc
  .tuple(
    fc.array(fc.integer({ min: 1, max: 40_000 }), { maxLength: 12 }),
    fc.array(fc.integer({ min: 100, max: 30_000 }), { minLength: 1, maxLength: 4 }),
  )
  .map(([sizes, lengths]) => layoutOf(sizes, lengths));

function presenceOf(layout: PresenceLayout): Presence {
  return new Presence(layout, new SharedArrayBuffer(Presence.blockBytes(layout.imageBytes)));
}

function hasBlock(presence: Presence, block: number): boolean {
  return (presence.blocks[block >> 5]! & (1 << (block & 31))) !== 0;
}

t.test(
  'a block is there exactly when all of its bytes were written; spans arrive in any order',
  async (t) => {
    fc.assert(
      fc.property(layouts, fc.array(fc.nat(), { maxLength: 60 }), (layout, order) => {
        const presence = presenceOf(layout);
        const layerBytes = Uint8Array.from(
          { length: layout.uncompressedBytes },
          (_none, at) => 1 + (at % 251),
        );
        const image = new Uint8Array(layout.imageBytes);
        const expected = new Uint8Array(layout.imageBytes);
        const { image: at, layer, length } = layout.extents;
        for (let extent = 0; extent < at.length; extent++)
          expected.set(layerBytes.subarray(layer[extent]!, layer[extent]! + length[extent]!), at[extent]!);
        for (const pick of order) {
          const span = pick % layout.spanOffsets.length;
          const start = layout.spanOffsets[span]!;
          for (const { from, to, length } of presence.placements(span))
            image.set(layerBytes.subarray(start + from, start + from + length), to);
          presence.add(span);
          for (let block = 2; block * IMAGE_BLOCK < layout.imageBytes; block++) {
            const from = block * IMAGE_BLOCK;
            const isRight = Buffer.compare(
              image.subarray(from, from + IMAGE_BLOCK),
              expected.subarray(from, from + IMAGE_BLOCK),
            );
            if (hasBlock(presence, block) !== (isRight === 0)) throw new Error(`block ${block}`);
          }
        }
        t.equal(presence.count, new Set(order.map((pick) => pick % layout.spanOffsets.length)).size);
        t.ok(hasBlock(presence, 0) && hasBlock(presence, 1), 'metadata is always there');
      }),
      { numRuns: 100 },
    );
  },
);

t.test('what a range misses is enough and no more', async (t) => {
  fc.assert(
    fc.property(
      layouts,
      fc.nat(),
      fc.nat(50_000),
      fc.array(fc.nat(), { maxLength: 5 }),
      (layout, at, most, have) => {
        const presence = presenceOf(layout);
        for (const pick of have) presence.add(pick % layout.spanOffsets.length);
        const offset = at % layout.imageBytes;
        const length = Math.min(1 + most, layout.imageBytes - offset);
        const missing = presence.missing(offset, length);
        for (const span of missing) if (presence.has(span)) throw new Error('it is there');
        const touching = missing.filter((span) =>
          presence.placements(span).some((one) => one.to < offset + length && one.to + one.length > offset),
        );
        t.same(touching, missing, 'each brings bytes of the range');
        for (const span of missing) presence.add(span);
        t.same(presence.missing(offset, length), []);
        for (
          let block = Math.ceil(offset / IMAGE_BLOCK);
          (block + 1) * IMAGE_BLOCK <= offset + length;
          block++
        )
          if (!hasBlock(presence, block)) throw new Error(`block ${block} is not there`);
      },
    ),
    { numRuns: 200 },
  );
});

t.test('whatever comes and goes, what can be read follows from the spans that are there', async (t) => {
  const steps = fc.array(fc.record({ span: fc.nat(), comes: fc.boolean() }), { maxLength: 40, size: 'max' });
  fc.assert(
    fc.property(layouts, steps, fc.nat(), fc.integer({ min: 1, max: 50_000 }), (layout, list, at, most) => {
      const presence = presenceOf(layout);
      const there = new Set<number>();
      for (const { span: pick, comes } of list) {
        const span = pick % layout.spanOffsets.length;
        if (comes) {
          presence.add(span);
          there.add(span);
        } else {
          presence.drop(span);
          there.delete(span);
        }
      }
      const fresh = presenceOf(layout);
      for (const span of there) fresh.add(span);
      t.same([presence.count, presence.spans, presence.blocks], [there.size, fresh.spans, fresh.blocks]);
      const offset = at % layout.imageBytes;
      const parts = [presence.present(offset, most), presence.missing(offset, most)] as const;
      t.ok(parts[0].every((span) => there.has(span)) && parts[1].every((span) => !there.has(span)));
      const none = presenceOf(layout);
      t.same(
        [...parts[0], ...parts[1]].sort((a, b) => a - b),
        none.missing(offset, most),
      );
    }),
    { numRuns: 100 },
  );
});

t.test('the first spans that are missing are told, neighbours alone, until all are there', async (t) => {
  const presence = presenceOf(layoutOf([8_000], [1_000]));
  const spans = presence.missing(0, 100_000).length + 1;
  t.same(presence.firstMissing(3), { first: 0, last: 2 });
  for (const span of [0, 1, 3]) presence.add(span);
  t.same(presence.firstMissing(3), { first: 2, last: 2 });
  presence.add(2);
  t.same(presence.firstMissing(100), { first: 4, last: spans - 1 });
  for (let span = 4; span < spans; span++) presence.add(span);
  t.equal(presence.firstMissing(3), undefined);
  t.ok(presence.isComplete);
  presence.drop(5);
  t.same(presence.firstMissing(3), { first: 5, last: 5 });
});

t.test('an empty layer is complete', async (t) => {
  const layout = { ...layoutOf([], [1000]), spanOffsets: new Float64Array(0), uncompressedBytes: 0 };
  t.ok(presenceOf(layout).isComplete);
  t.same(presenceOf(layout).missing(0, 100), []);
});

t.test('neighbours are fetched together, as many as allowed', async (t) => {
  t.same(runsOf([], 3), []);
  t.same(runsOf([1, 2, 3, 4, 7, 9, 10], 3), [
    { first: 1, last: 3 },
    { first: 4, last: 4 },
    { first: 7, last: 7 },
    { first: 9, last: 10 },
  ]);
});
