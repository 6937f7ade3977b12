import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { CodedError } from '../../src/errors.ts';
import { peerIdHexOf, peerIdOf } from '../../src/names/peer-id.ts';
import { isRepositoryName, isTag, parseRepositoryName, parseTag } from '../../src/names/repository.ts';

t.test('repository names of the OCI grammar', async (t) => {
  for (const good of [
    'a',
    'library/app',
    'a/b/c/d',
    'a.b',
    'a_b',
    'a__b',
    'a-b',
    'a---b',
    '0/1',
    'x'.repeat(255),
    'harbor.example.com/app',
  ]) {
    t.ok(isRepositoryName(good), good);
  }
  for (const bad of [
    '',
    '/',
    'a/',
    '/a',
    'a//b',
    'A',
    'a b',
    'a:b',
    '.a',
    'a.',
    'a..b',
    'a___b',
    'a_.b',
    '-a',
    'a-',
    '_a',
    'ä',
    'a\n',
    '../a',
    'x'.repeat(256),
  ]) {
    t.notOk(isRepositoryName(bad), JSON.stringify(bad));
    t.throws(() => parseRepositoryName(bad), { code: 'NAME_INVALID' });
  }
});

t.test('tags', async (t) => {
  for (const good of ['v1', '_', 'A.b-c_d', '0', 'x'.repeat(128)]) t.ok(isTag(good), good);
  for (const bad of ['', '.a', '-a', 'a:b', 'a/b', 'a b', 'a+b', 'v1\n', 'x'.repeat(129)]) {
    t.notOk(isTag(bad), JSON.stringify(bad));
    t.throws(() => parseTag(bad), { code: 'TAG_INVALID' });
  }
});

t.test('any text is a name or a coded error, in time', async (t) => {
  const odd = fc
    .array(fc.constantFrom('a', '0', '.', '_', '-', '/', 'A', ':'))
    .map((parts) => parts.join(''));
  fc.assert(
    fc.property(fc.oneof(fc.string(), odd), (text) => {
      for (const parse of [parseRepositoryName, parseTag]) {
        try {
          if (parse(text) !== text) return false;
        } catch (error) {
          if (!(error instanceof CodedError)) return false;
        }
      }
      return true;
    }),
    { numRuns: 3000 },
  );
  const began = performance.now();
  for (const text of [`${'a-'.repeat(127)}!`, `${'a'.repeat(254)}!`, `${'_'.repeat(254)}!`])
    isRepositoryName(text);
  t.ok(performance.now() - began < 20_000, 'steps that double would never end');
});

t.test('a node has one peer id, also after a restart', async (t) => {
  t.match(Buffer.from(peerIdOf('node-1')).toString('latin1'), /^-SP0001-/);
  t.equal(peerIdOf('node-1').length, 20);
  t.same(peerIdOf('node-1'), peerIdOf('node-1'));
  t.notSame(peerIdOf('node-1'), peerIdOf('node-2'));
  t.equal(peerIdHexOf('node-1'), Buffer.from(peerIdOf('node-1')).toString('hex'));
});
