import t from 'tap';
import { ChunkSizes } from '../../src/core/chunk-sizes.ts';

const MIB = 1024 * 1024;

t.test('what was too large is not sent again for a while, and the next smaller size is', async (t) => {
  const sizes = new ChunkSizes({ keptMs: 1_000 });
  t.equal(sizes.bytes(0), 32 * MIB);
  t.ok(sizes.tooLarge(32 * MIB, 0));
  t.equal(sizes.bytes(999), 4 * MIB);
  t.ok(sizes.tooLarge(2 * MIB, 999), 'the last chunk of a blob may be small');
  t.equal(sizes.bytes(1_500), MIB);
  t.notOk(sizes.tooLarge(MIB, 1_500), 'nothing smaller is tried');
  t.ok(sizes.tooLarge(32 * MIB, 1_600), 'sent before that was known');
  t.equal(sizes.bytes(1_600), MIB);
  t.equal(sizes.bytes(2_600), 32 * MIB);
});
