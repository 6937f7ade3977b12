import { isCoded } from '@sepia/base/errors';
import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { parseChunkRange } from '../src/chunk-range.ts';

t.test('a chunk range is read in both spellings and must fit the length', async (t) => {
  t.same(parseChunkRange('0-99', 100), { start: 0, end: 99 });
  t.same(parseChunkRange('bytes 100-199/*', 100), { start: 100, end: 199 });
  t.same(parseChunkRange('bytes=5-9/500', 5), { start: 5, end: 9 });
  t.same(parseChunkRange(' 5-5 ', undefined), { start: 5, end: 5 });
  for (const bad of ['', 'x', '5', '5-', '-5', '9-5', '1-2-3', '0-9,20-29', 'bytes 1-2/x'])
    t.throws(() => parseChunkRange(bad, undefined), { code: 'UPLOAD_INVALID' }, bad);
  t.throws(() => parseChunkRange('0-99', 99), { code: 'SIZE_MISMATCH' });
});

t.test('a chunk range of any text never fails without a code', async (t) => {
  fc.assert(
    fc.property(fc.string(), (text) => {
      try {
        parseChunkRange(text, 5);
      } catch (error) {
        if (!isCoded(error)) throw error;
      }
    }),
  );
  t.pass('no uncoded throw');
});
