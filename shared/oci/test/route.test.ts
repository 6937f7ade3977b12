import { digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { parseReference, parseRegistryPath, referenceText } from '../src/route.ts';

const DIGEST = digestOf(Buffer.from('x'));
const SHA512 = digestOf(Buffer.from('x'), 'sha512');

t.test('the routes of OCI distribution', async (t) => {
  t.same(parseRegistryPath('/v2'), { type: 'base' });
  t.same(parseRegistryPath('/v2/'), { type: 'base' });
  t.same(parseRegistryPath('/v2/_catalog'), { type: 'catalog' });
  t.same(parseRegistryPath('/v2/a/b/manifests/v1'), {
    type: 'manifest',
    name: 'a/b',
    reference: { kind: 'tag', tag: 'v1' },
  });
  t.same(parseRegistryPath(`/v2/a/manifests/${SHA512}`), {
    type: 'manifest',
    name: 'a',
    reference: { kind: 'digest', digest: SHA512 },
  });
  t.same(parseRegistryPath(`/v2/a/blobs/${DIGEST}`), { type: 'blob', name: 'a', digest: DIGEST });
  t.same(parseRegistryPath('/v2/a/blobs/uploads'), { type: 'uploads', name: 'a' });
  t.same(parseRegistryPath('/v2/a/blobs/uploads/'), { type: 'uploads', name: 'a' });
  t.same(parseRegistryPath('/v2/a/blobs/uploads/o1.f00'), { type: 'upload', name: 'a', uploadId: 'o1.f00' });
  t.same(parseRegistryPath('/v2/a/tags/list'), { type: 'tags', name: 'a' });
  t.same(parseRegistryPath(`/v2/a/referrers/${DIGEST}`), { type: 'referrers', name: 'a', digest: DIGEST });
});

t.test('names that look like routes', async (t) => {
  t.match(parseRegistryPath('/v2/a/manifests/b/manifests/v1'), { type: 'manifest', name: 'a/manifests/b' });
  t.match(parseRegistryPath('/v2/blobs/uploads/tags/list'), { type: 'tags', name: 'blobs/uploads' });
  t.match(parseRegistryPath('/v2/a/manifests/uploads'), {
    type: 'manifest',
    name: 'a',
    reference: { tag: 'uploads' },
  });
  t.match(parseRegistryPath('/v2/a/manifests/list'), { reference: { tag: 'list' } });
});

t.test('what is no route', async (t) => {
  for (const path of [
    '',
    '/',
    '/v1/',
    '/v2/a',
    '/v2//manifests/x',
    '/v2/manifests/x',
    '/v2/a/manifests/',
    '/v2/a/tags/other',
    '/v2/a/tags/uploads',
    '/v2/a/manifests/uploads/x',
    '/v2/a/tags/uploads/x',
    '/v2/a/blobs/uploads/x/y',
    'v2/a/tags/list',
    '/v2/a/tags/list/',
    '/v2/a\n/tags/list',
  ]) {
    t.throws(() => parseRegistryPath(path), { code: 'ROUTE_UNKNOWN' }, JSON.stringify(path));
  }
  t.throws(() => parseRegistryPath('/v2/a/blobs/sha256:short'), { code: 'DIGEST_SYNTAX' });
  t.throws(() => parseRegistryPath('/v2/a/blobs/latest'), { code: 'DIGEST_SYNTAX' });
  t.throws(() => parseRegistryPath('/v2/a/manifests/sha256:totallywrong'), { code: 'DIGEST_SYNTAX' });
  t.throws(() => parseRegistryPath(`/v2/a/manifests/${DIGEST.toUpperCase()}`), { code: 'DIGEST_SYNTAX' });
  t.throws(() => parseRegistryPath('/v2/a/manifests/.x'), { code: 'TAG_INVALID' });
});

t.test('a reference is written as it was read', async (t) => {
  for (const text of ['v1', DIGEST, SHA512]) t.equal(referenceText(parseReference(text)), text);
});

t.test('any path is a route or a coded error', async (t) => {
  const part = fc.constantFrom(
    'v2',
    'a',
    'manifests',
    'blobs',
    'uploads',
    'tags',
    'list',
    'referrers',
    '_catalog',
    DIGEST,
    '',
    '..',
    'x:y',
  );
  const path = fc.oneof(
    fc.string(),
    fc.array(part, { maxLength: 8 }).map((parts) => `/v2/${parts.join('/')}`),
  );
  fc.assert(
    fc.property(path, (text) => {
      try {
        const route = parseRegistryPath(text);
        return !('name' in route) || route.name.length > 0;
      } catch (error) {
        return (
          error instanceof CodedError &&
          ['ROUTE_UNKNOWN', 'DIGEST_SYNTAX', 'TAG_INVALID'].includes(error.code)
        );
      }
    }),
    { numRuns: 5000 },
  );
  t.pass('held');
});
