import { createHmac } from 'node:crypto';
import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { hmacOf } from '../src/hmac.ts';

const KEYS = fc.uint8Array({ minLength: 0, maxLength: 200 });
const TEXTS = fc.string({ unit: 'binary', maxLength: 300 });

t.test('it is what OpenSSL says, for every key and text', async () => {
  fc.assert(
    fc.property(KEYS, fc.array(TEXTS, { minLength: 1, maxLength: 3 }), (key, texts) =>
      texts.every((text) => hmacOf(key, text).equals(createHmac('sha256', key).update(text).digest())),
    ),
  );
});

t.test('keys that are as long as a block, one shorter and one longer', async (t) => {
  for (const length of [0, 1, 32, 63, 64, 65, 128]) {
    const key = new Uint8Array(length).fill(length);
    const expected = createHmac('sha256', key).update('text ü 🐙').digest('hex');
    t.equal(hmacOf(key, 'text ü 🐙').toString('hex'), expected, `${length} bytes`);
    t.equal(hmacOf(key, 'text ü 🐙').toString('hex'), expected, 'again');
  }
});
