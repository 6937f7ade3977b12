import t from 'tap';
import { giveBack } from '../src/chunk.ts';

t.test('a chunk that is alone in its memory is freed, one that shares it is not', async (t) => {
  const alone = Buffer.allocUnsafeSlow(65_536);
  giveBack(alone);
  t.equal(alone.byteLength, 0);
  giveBack(alone);
  const shared = Buffer.allocUnsafeSlow(65_536).fill(7);
  giveBack(shared.subarray(1));
  t.equal(shared.byteLength, 65_536);
  t.equal(shared[65_535], 7);
});
