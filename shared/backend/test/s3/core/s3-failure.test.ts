import t from 'tap';
import { meaningOf } from '../../../src/s3/core/s3-failure.ts';

t.test('what a store says is told apart', async (t) => {
  for (const [status, code, expected] of [
    [503, 'SlowDown', 'UPSTREAM_LIMITED'],
    [429, 'Unknown', 'UPSTREAM_LIMITED'],
    [503, 'ServiceUnavailable', 'BACKEND_DOWN'],
    [500, 'InternalError', 'BACKEND_DOWN'],
    [404, 'NoSuchKey', 'BLOB_UNKNOWN'],
    [404, 'NotFound', 'BLOB_UNKNOWN'],
    [404, 'NoSuchBucket', 'UPSTREAM_DENIED'],
    [404, 'NoSuchUpload', 'UPLOAD_UNKNOWN'],
    [403, 'AccessDenied', 'UPSTREAM_DENIED'],
    [416, 'InvalidRange', 'RANGE_INVALID'],
    [400, 'BadDigest', 'BACKEND_DOWN'],
    [400, 'RequestTimeout', 'BACKEND_DOWN'],
    [408, 'Unknown', 'BACKEND_DOWN'],
    [400, 'InvalidPart', 'UPSTREAM_DENIED'],
    [301, 'PermanentRedirect', 'UPSTREAM_DENIED'],
    [307, 'TemporaryRedirect', 'BACKEND_DOWN'],
    [307, '', 'BACKEND_DOWN'],
  ] as const)
    t.equal(meaningOf({ status, code, message: '' }).code, expected, `${status} ${code}`);
});

t.test('what an operator can do is said', async (t) => {
  t.match(meaningOf({ status: 404, code: 'NoSuchBucket', message: '' }).words, /backend\.s3\.bucket/);
  t.match(meaningOf({ status: 301, code: 'PermanentRedirect', message: '' }).words, /backend\.s3\.region/);
  t.equal(meaningOf({ status: 500, code: 'X', message: 'y' }).words, 'it answered 500 (X: y)');
  t.equal(meaningOf({ status: 502, code: '', message: '' }).words, 'it answered 502');
  t.ok(meaningOf({ status: 500, code: 'X', message: 'y'.repeat(9_000) }).words.length < 400);
});
