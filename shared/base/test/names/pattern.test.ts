import { fc } from '@sepia/test-support/property';
import t from 'tap';
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
    ['{library,team/a}/**', ['team/a/b', 'library/nginx']],
    ['{team/**,app}', ['app', 'team', 'team/app', 'team/a/b']],
    ['team{,/app}', ['team', 'team/app']],
    ['{v{1,2},app}', ['app', 'v1']],
    ['{app}', ['app']],
    ['[^vl]*', ['app', 'team']],
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
    '}a{',
    '{a,}/b',
    '^a!b',
  ])
    t.type(patternFault(bad), 'string', bad);
  t.type(patternFault('a'.repeat(256)), 'string');
  t.throws(() => matcherOf(['a[']), TypeError);
});

t.test('what would mean another thing than it looks like is refused, and says what to write', async (t) => {
  for (const [bad, message] of [
    ['!team/**', /put exceptions before the rule/],
    ['[!s]ecret/**', /write \[\^abc\]/],
    ['team/**-secret', /\*\* beside other characters/],
    ['**.x', /\*\* beside other characters/],
    ['{a**,b}', /\*\* beside other characters/],
    ['.*', /begins with a dot/],
    ['team/.*', /begins with a dot/],
    ['v{1..20}', /range in braces/],
  ] as const)
    t.match(patternFault(bad), message, bad);
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

t.test('patterns that would take long are refused', async (t) => {
  for (const bad of [
    '*a*a*a*a*b',
    '*a*b*c',
    'team/*a*b*c/x',
    '**/a/**/b/**/c/**',
    '*a*/*a*/*a*/*a*b',
    '{{a,b}*,c}',
    '*{{a,b},c}',
    `${'{a,aa}'.repeat(6)}b`,
    '{a*,b*,c*}',
  ])
    t.type(patternFault(bad), 'string', bad);
  for (const good of [
    '*a*',
    '*a*/*b*/*c*',
    '**/a/**',
    '{a*,b*}/c',
    '{team,lib}/**',
    '{a,{b,c}}',
    'v*-*',
    '**',
  ])
    t.equal(patternFault(good), undefined, good);
});

t.test('property: any pattern that is taken is matched against the longest names at once', async (t) => {
  const names = [
    'a'.repeat(255),
    `${'a/'.repeat(127)}a`,
    `${'aaa/'.repeat(63)}aaa`,
    `${'ab/'.repeat(85)}`.slice(0, 254),
  ];
  const piece = fc.constantFrom('*', '**', 'a', 'a', 'aa', '/', '?', '[ab]', '{a,aa}', '{a,aa,*}', 'b');
  const hard = [
    '*a*b',
    '**/*a*b/**/*a*b',
    '**a*/**a*b',
    `${'{a,aa}'.repeat(5)}*a*b`,
    `**/${'{a,aa}'.repeat(5)}*a/**/b`,
    '**/*a*/*a*b',
    `**/${'*/'.repeat(60)}*a*b`,
    `**/${'*a/'.repeat(40)}*a*b`,
  ];
  const startedMs = performance.now();
  let matched = 0;
  const match = (pattern: string): void => {
    if (patternFault(pattern) !== undefined) return;
    matched += 1;
    for (const name of names) matcherOf([pattern])(name);
  };
  for (const pattern of hard) match(pattern);
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 60 }), (pieces) => match(pieces.join(''))),
    { numRuns: 1_000, interruptAfterTimeLimit: 10_000 },
  );
  t.ok(matched > 50, `${matched} patterns`);
  t.ok(performance.now() - startedMs < 30_000, 'one bad pattern alone would take minutes');
});
