import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { NonceBook } from '../src/nonce-book.ts';

const hex = (value: number): string => value.toString(16).padStart(16, '0').padEnd(32, 'f');

t.test('what was taken within the time is seen, whatever the order: a model', async (t) => {
  const step = fc.record({ nonce: fc.nat(40), waitMs: fc.nat(9_000) });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const book = new NonceBook({ keepMs: 30_000, max: 1_000 });
      const takenMs = new Map<number, number>();
      let nowMs = 0;
      for (const { nonce, waitMs } of steps) {
        nowMs += waitMs;
        const agoMs = nowMs - (takenMs.get(nonce) ?? Number.NEGATIVE_INFINITY);
        const answer = book.take(hex(nonce + 1), nowMs);
        if (agoMs <= 30_000 && answer !== 'seen') return false;
        if (agoMs > 60_000 && answer !== 'new') return false;
        if (answer === 'new') takenMs.set(nonce, nowMs);
      }
      return true;
    }),
  );
  t.pass('held');
});

t.test('it holds as many as it may, then says so, and has room again in time', async (t) => {
  const book = new NonceBook({ keepMs: 30_000, max: 5_000 });
  for (let at = 0; at < 5_000; at++) t.equal(book.take(hex(at * 65_537), at), 'new', `nonce ${at}`);
  t.equal(book.size, 5_000);
  t.equal(book.take(hex(2), 5_000), 'full');
  t.equal(book.take(hex(0), 5_000), 'seen', 'a replay is told all the same, of zeros too');
  t.equal(book.take(hex(2), 46_000), 'new');
  t.equal(book.size, 1);
});

t.test('nonces of the same low bits are kept apart', async (t) => {
  const book = new NonceBook({ keepMs: 1_000, max: 10_000 });
  const same = (at: number): string => `${at.toString(16).padStart(8, '0')}00000007${'0'.repeat(16)}`;
  for (let at = 1; at <= 3_000; at++) book.take(same(at), 0);
  for (let at = 1; at <= 3_000; at++) if (book.take(same(at), 0) !== 'seen') t.fail(`nonce ${at}`);
  t.equal(book.size, 3_000);
});
