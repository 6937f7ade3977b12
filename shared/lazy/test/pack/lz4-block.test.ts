import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { inflateLz4 } from '../../src/pack/lz4-block.ts';

const block = (...parts: (number | string)[]): Uint8Array =>
  Buffer.concat(parts.map((part) => (typeof part === 'string' ? Buffer.from(part) : Buffer.of(part))));
const text = (packed: Uint8Array, sizeBytes: number): string => {
  const raw = inflateLz4(packed, sizeBytes);
  return typeof raw === 'string' ? raw : `"${raw.toString()}"`;
};

t.test('blocks by the format: literals, repetitions that reach into themselves, long lengths', async (t) => {
  t.equal(text(block(0x50, 'hello'), 5), '"hello"');
  t.equal(text(block(0x20, 'ab', 2, 0, 0x10, 'c'), 7), '"abababc"', 'four bytes at the least');
  t.equal(text(block(0x1f, 'x', 1, 0, 255, 0, 0x10, 'y'), 276), `"${'x'.repeat(275)}y"`);
  t.equal(text(block(0xf0, 3, 'a'.repeat(18)), 18), `"${'a'.repeat(18)}"`);
  t.equal(text(block(0x00), 0), '""');
});

t.test('what is no block, or not as long as it should be, is said', async (t) => {
  t.match(text(block(0x50, 'hello'), 6), /has 5 bytes, 6 are said/);
  for (const [packed, sizeBytes] of [
    [block(), 0],
    [block(0x50, 'hel'), 5],
    [block(0x50, 'hello'), 4],
    [block(0xf0), 20],
    [block(0x10, 'a', 2, 0, 0x10, 'b'), 6],
    [block(0x10, 'a', 0, 0, 0x10, 'b'), 6],
    [block(0x10, 'a', 1), 5],
    [block(0x1f, 'a', 1, 0, 255), 300],
    [block(0x10, 'a', 1, 0), 5],
  ] as const)
    t.equal(text(packed, sizeBytes), 'is no LZ4 block');
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 40 }), fc.nat(300), (packed, sizeBytes) => {
      const raw = inflateLz4(packed, sizeBytes);
      return typeof raw === 'string' || raw.length === sizeBytes;
    }),
  );
});
