import { isCoded } from '@sepia/base/errors';
import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { heldRange, parseUploadId } from '../../../src/registry/core/upload.ts';

t.test('an upload id names its stager, also one with dots', async (t) => {
  t.same(parseUploadId('origin-1.0123456789ab'), { text: 'origin-1.0123456789ab', stagerId: 'origin-1' });
  t.equal(parseUploadId('a.b.example.AbC_-012').stagerId, 'a.b.example');
  for (const bad of [
    '',
    'origin-1',
    'origin-1.',
    '.0123456789',
    'origin-1.short',
    'Origin.0123456789',
    '-a.0123456789',
    'a/b.0123456789',
    'a.0123456789?x',
    `${'a'.repeat(65)}.0123456789`,
  ]) {
    t.throws(() => parseUploadId(bad), { code: 'UPLOAD_UNKNOWN' }, bad);
  }
});

t.test('a held range has two numbers around one dash', async (t) => {
  t.equal(heldRange(0), '0-0');
  t.equal(heldRange(1), '0-0');
  t.equal(heldRange(100), '0-99');
});

t.test('ids of any text never fail without a code', async (t) => {
  fc.assert(
    fc.property(fc.string(), (text) => {
      try {
        parseUploadId(text);
      } catch (error) {
        if (!isCoded(error)) throw error;
      }
    }),
  );
  t.pass('no uncoded throw');
});
