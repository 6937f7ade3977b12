import { digestOf } from '@sepia/base/digest';
import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { S3Keys } from '../../../src/s3/core/s3-keys.ts';

const digest = digestOf(Buffer.from('x'));
const hex = digest.slice(7);

t.test('keys are as documented, and changing them would lose every blob', async (t) => {
  t.equal(new S3Keys('', 'sepia').keyOf(digest), `blobs/sha256/${hex.slice(0, 2)}/${hex}`);
  t.equal(new S3Keys('a/', 'sepia').keyOf(digest), `a/blobs/sha256/${hex.slice(0, 2)}/${hex}`);
  t.equal(
    new S3Keys('', 'registry').keyOf(digest),
    `docker/registry/v2/blobs/sha256/${hex.slice(0, 2)}/${hex}/data`,
  );
});

t.test('a key leads back to its blob; those of others to none', async (t) => {
  const layout = fc.constantFrom('sepia' as const, 'registry' as const);
  fc.assert(
    fc.property(fc.string(), layout, fc.uint8Array(), fc.boolean(), (prefix, layout, bytes, long) => {
      const keys = new S3Keys(prefix, layout);
      const digest = digestOf(bytes, long ? 'sha512' : 'sha256');
      const key = keys.keyOf(digest);
      return (
        keys.digestOf(key) === digest &&
        keys.digestOf(`${key}x`) === undefined &&
        keys.digestOf(key.slice(0, -1)) === undefined &&
        keys.digestOf(key.replace(/sha(...)/, 'sha$1/zz')) === undefined
      );
    }),
  );
  t.pass();
});
