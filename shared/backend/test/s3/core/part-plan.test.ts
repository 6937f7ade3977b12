import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { likeness, MAX_PARTS, partBytesOf, partsOf } from '../../../src/s3/core/part-plan.ts';

const MIB = 1024 * 1024;

t.test('parts cover a blob, in order, and are not too many', async (t) => {
  fc.assert(
    fc.property(fc.nat({ max: 50_000 }), fc.integer({ min: 1, max: 900 }), (sizeBytes, partBytes) => {
      let at = 0;
      let number = 1;
      for (const part of partsOf(sizeBytes, partBytes)) {
        if (part.start !== at || part.number !== number || part.end <= part.start) return false;
        if (part.end - part.start > partBytes) return false;
        at = part.end;
        number += 1;
      }
      return at === sizeBytes;
    }),
  );
  for (const sizeBytes of [0, 1, 8 * MIB, 80_000 * MIB, 80_000 * MIB + 1, 2 ** 40]) {
    const partBytes = partBytesOf(sizeBytes, 8 * MIB);
    t.ok(partBytes >= 8 * MIB && Math.ceil(sizeBytes / partBytes) <= MAX_PARTS, `${sizeBytes} bytes`);
  }
});

t.test('an object is compared by what its store tells', async (t) => {
  const blob = { sizeBytes: 10, sha256: 'abc=', parts: 2 };
  t.equal(likeness({ sizeBytes: 9, sha256: 'abc=' }, blob), 'unlike');
  t.equal(likeness({ sizeBytes: 10, sha256: undefined }, blob), 'same');
  t.equal(likeness({ sizeBytes: 10, sha256: 'abc=' }, blob), 'same');
  t.equal(likeness({ sizeBytes: 10, sha256: 'abd=' }, blob), 'unlike');
  t.equal(likeness({ sizeBytes: 10, sha256: 'abd=-2' }, blob), 'compare');
  t.equal(likeness({ sizeBytes: 10, sha256: 'abd=-3' }, blob), 'same', 'parts of another size');
  t.equal(likeness({ sizeBytes: 10, sha256: 'abd=' }, { ...blob, sha256: undefined }), 'same');
});
