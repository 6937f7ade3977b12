import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { noteRead } from '../../../src/fuse/shown-file.ts';
import { firstReads, turnBytes } from '../../../src/layers/core/first-reads.ts';
import { IMAGE_BLOCK } from '../../../src/layers/core/presence.ts';

/** Files from a whole block on, behind two blocks of metadata. */
function placesOf(sizes: readonly number[]): { image: Float64Array; length: Float64Array; bytes: number } {
  const image: number[] = [];
  let at = 2 * IMAGE_BLOCK;
  for (const size of sizes) {
    image.push(at);
    at += Math.ceil(size / IMAGE_BLOCK) * IMAGE_BLOCK;
  }
  return { image: Float64Array.from(image), length: Float64Array.from(sizes), bytes: at };
}

t.test('files are told by the first read that touched one of their blocks', async (t) => {
  const sizes = fc.array(fc.integer({ min: 1, max: 30_000 }), { minLength: 1, maxLength: 12 });
  const reads = fc.array(fc.tuple(fc.nat(400_000), fc.integer({ min: 1, max: 20_000 })), { maxLength: 30 });
  fc.assert(
    fc.property(sizes, reads, (lengths, asked) => {
      const places = placesOf(lengths);
      const turns = new Int32Array(new SharedArrayBuffer(turnBytes(places.bytes)));
      const expected = new Map<number, number>();
      for (const [index, [from, length]] of asked.entries()) {
        const offset = from % places.bytes;
        noteRead(turns, index + 1, offset, length);
        const first = Math.floor(offset / IMAGE_BLOCK) * IMAGE_BLOCK;
        const end = (Math.floor((offset + length - 1) / IMAGE_BLOCK) + 1) * IMAGE_BLOCK;
        for (const [extent, start] of places.image.entries())
          if (start < end && start + lengths[extent]! > first && !expected.has(extent))
            expected.set(extent, index + 1);
      }
      const wanted = [...expected]
        .map(([extent, turn]) => ({ extent, turn }))
        .sort((a, b) => a.turn - b.turn || a.extent - b.extent);
      return JSON.stringify(firstReads(turns, places)) === JSON.stringify(wanted);
    }),
  );
  t.equal(turnBytes(0), 4);
});

t.test('of a large file the parts are told that were read, each by its own first read', async (t) => {
  const MIB = 1024 * 1024;
  const places = placesOf([5_000, 10 * MIB + 100]);
  const turns = new Int32Array(new SharedArrayBuffer(turnBytes(places.bytes)));
  const large = places.image[1]!;
  noteRead(turns, 1, large + 10 * MIB, 50);
  noteRead(turns, 2, places.image[0]!, 10);
  noteRead(turns, 3, large + 2 * MIB + 5_000, 2 * MIB);
  t.same(firstReads(turns, places), [
    { extent: 1, turn: 1, part: { offset: 10 * MIB, length: 100 } },
    { extent: 0, turn: 2 },
    { extent: 1, turn: 3, part: { offset: 2 * MIB, length: MIB } },
    { extent: 1, turn: 3, part: { offset: 3 * MIB, length: MIB } },
    { extent: 1, turn: 3, part: { offset: 4 * MIB, length: MIB } },
  ]);
});
