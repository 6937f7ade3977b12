import t from 'tap';
import { isGenericType, isMediaType, mediaTypeIn } from '../src/media-type.ts';

t.test('a media type is two names of at most 127 characters', async (t) => {
  for (const type of [
    'a/b',
    'application/vnd.oci.image.index.v1+json',
    `${'a'.repeat(127)}/${'b'.repeat(127)}`,
  ])
    t.ok(isMediaType(type), type);
  for (const type of [
    '',
    'a',
    'a/',
    '/b',
    'a/b/c',
    'a b/c',
    'a/b;c=d',
    'a/b\r\n',
    'ä/b',
    `a/${'b'.repeat(128)}`,
  ])
    t.notOk(isMediaType(type), type);
});

t.test('parameters are left out, what is no type is none', async (t) => {
  t.equal(mediaTypeIn(' text/HTML ; charset=utf-8'), 'text/HTML');
  for (const type of [undefined, '', ';', 'nonsense', 'x'.repeat(20_000)])
    t.equal(mediaTypeIn(type), undefined);
});

t.test('some types say nothing', async (t) => {
  for (const type of ['text/plain', 'Text/HTML', 'application/json', 'binary/octet-stream'])
    t.ok(isGenericType(type));
  t.notOk(isGenericType('application/vnd.example+json'));
});
