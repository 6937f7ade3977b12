import t from 'tap';
import { alone, giveBack, giveBackRead, keepRead, READ_BUFFER, READ_BYTES } from '../src/chunk.ts';

t.test('a chunk that is alone in its memory is freed, one that shares it is not', async (t) => {
  const lone = Buffer.allocUnsafeSlow(65_536);
  giveBack(lone);
  t.equal(lone.byteLength, 0);
  giveBack(lone);
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

t.test('memory of a full read is used again, and what was given back shows nothing of it', async (t) => {
  READ_BUFFER.fill(1);
  const [first, second] = [keepRead(READ_BYTES), keepRead(READ_BYTES)];
  const view = first.subarray(10, 20);
  giveBack(first);
  READ_BUFFER.fill(2);
  const third = keepRead(READ_BYTES);
  t.same([first.byteLength, view.byteLength], [0, 0], 'whoever looks at it late finds nothing');
  t.ok(third.every((byte) => byte === 2));
  t.ok(
    second.every((byte) => byte === 1),
    'a chunk that is not given back stays as it is',
  );
  giveBackRead(second.subarray(600));
  t.equal(second.byteLength, 0);
});

t.test('a short read is alone in memory of its length', async (t) => {
  READ_BUFFER.fill(3);
  const chunk = keepRead(1_000);
  READ_BUFFER.fill(4);
  t.equal(chunk.buffer.byteLength, 1_000);
  t.ok(chunk.every((byte) => byte === 3));
});

t.test('what is kept long is alone in its memory', async (t) => {
  const small = Buffer.concat([Buffer.from('a'), Buffer.from('b')]);
  const own = alone(small);
  t.equal(own.toString(), 'ab');
  t.equal(own.buffer.byteLength, 2);
  t.equal(alone(own), own, 'once is enough');
  t.equal(alone(Buffer.alloc(0)).length, 0);
});
