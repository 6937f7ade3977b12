import t from 'tap';
import { giveBack, giveBackRead } from '../src/chunk.ts';

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

t.test(
  'a body that follows its headers in one chunk is freed, what lies in the pool or before others is not',
  async (t) => {
    const answer = Buffer.allocUnsafeSlow(65_536);
    giveBackRead(answer.subarray(600, 65_000));
    t.equal(answer.byteLength, 65_536, 'more of it comes');
    giveBackRead(answer.subarray(600));
    t.equal(answer.byteLength, 0);
    giveBackRead(answer);
    const small = Buffer.allocUnsafeSlow(17_000);
    giveBackRead(small.subarray(600));
    t.equal(small.byteLength, 0);
    const pool = new Uint8Array(Buffer.poolSize);
    giveBackRead(pool.subarray(pool.length - 16_384));
    t.equal(pool.byteLength, Buffer.poolSize, 'it may hold what is of others');
  },
);
