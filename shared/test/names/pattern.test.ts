import fc from 'fast-check';
import t from 'tap';
import { parseClusterDocument } from '../../src/cluster/document.ts';
import { matcherOf, patternFault } from '../../src/names/pattern.ts';

const NAMES = ['app', 'team', 'team/app', 'team/a/b', 'library/nginx', 'v1', 'v1.2', 'latest'];

t.test('doublestar globs', async (t) => {
  for (const [pattern, expected] of [
    ['*', ['app', 'team', 'v1', 'v1.2', 'latest']],
    ['**', NAMES],
    ['team/*', ['team/app']],
    ['team/**', ['team', 'team/app', 'team/a/b']],
    ['**/b', ['team/a/b']],
    ['{library,team}/*', ['team/app', 'library/nginx']],
    ['v[0-9]*', ['v1', 'v1.2']],
    ['v?', ['v1']],
    ['team/app', ['team/app']],
  ] as const)
    t.same(NAMES.filter(matcherOf([pattern])), expected, pattern);
  t.same(NAMES.filter(matcherOf(['v?', 'app'])), ['app', 'v1'], 'any of several');
});

t.test('what is no pattern is refused', async (t) => {
  for (const bad of [
    '',
    'a[',
    'a]',
    '{a',
    'a}',
    '/a',
    'a/',
    'a//b',
    '!a',
    'a b',
    '(a)',
    'a\\b',
    'é',
    '[z-a]',
  ])
    t.type(patternFault(bad), 'string', bad);
  t.type(patternFault('a'.repeat(256)), 'string');
  t.throws(() => matcherOf(['a[']), TypeError);
});

t.test('any text is a pattern or refused; a name without wildcards means itself', async () => {
  const chars = fc.string({ unit: fc.constantFrom(...'ab/*?[]{},!-.^\\('), maxLength: 40 });
  fc.assert(
    fc.property(fc.oneof(fc.string(), chars), (text) => {
      if (patternFault(text) === undefined) matcherOf([text])('a/b');
    }),
  );
  fc.assert(
    fc.property(fc.stringMatching(/^[a-z0-9]{1,8}(\/[a-z0-9]{1,8}){0,3}$/), (name) =>
      matcherOf([name])(name),
    ),
  );
});

const MEMBER = { id: 'o1', role: 'origin', urls: ['http://127.0.0.1:1'] };

t.test('a bad pattern or policy in the cluster document is refused with its path', async (t) => {
  const document = (tags: object, mode = 'none'): string =>
    JSON.stringify({ version: 1, members: [MEMBER], upstreams: [{ name: 'local', mode, tags }] });
  for (const [tags, path] of [
    [
      { overrides: [{ repositories: ['a['], policy: 'pinned' }] },
      'upstreams.0.tags.overrides.0.repositories.0',
    ],
    [
      { overrides: [{ repositories: ['a'], tags: ['v1', '!x'], policy: 'pinned' }] },
      'upstreams.0.tags.overrides.0.tags.1',
    ],
    [{ overrides: [{ repositories: [], policy: 'pinned' }] }, 'upstreams.0.tags.overrides.0.repositories'],
    [{ overrides: [{ repositories: ['a'], policy: 'fixed' }] }, 'upstreams.0.tags.overrides.0.policy'],
    [{ overrides: [{ repositories: ['a'], policy: 'revalidate' }] }, 'upstreams.0.tags.overrides.0.policy'],
    [{ policy: 'revalidate' }, 'upstreams.0.tags.policy'],
  ] as const)
    t.throws(() => parseClusterDocument(document(tags), 'cluster.yaml'), {
      code: 'CONFIG_INVALID',
      message: new RegExp(path.replaceAll('.', '\\.')),
    });
});
