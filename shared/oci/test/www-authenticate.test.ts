import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { bearerOf, parseChallenges } from '../src/www-authenticate.ts';

function plain(header: string | string[] | undefined): [string, Record<string, string>][] {
  return parseChallenges(header).map(({ scheme, params }) => [scheme, Object.fromEntries(params)]);
}

t.test('challenges as registries send them', async (t) => {
  t.same(
    plain(
      'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/app:pull,push"',
    ),
    [
      [
        'bearer',
        {
          realm: 'https://auth.docker.io/token',
          service: 'registry.docker.io',
          scope: 'repository:library/app:pull,push',
        },
      ],
    ],
  );
  t.same(plain('Basic realm="harbor"'), [['basic', { realm: 'harbor' }]]);
  t.same(plain(''), []);
  t.same(plain(undefined), []);
});

t.test('several challenges, in one header or in more, with commas and quotes inside', async (t) => {
  const expected = [
    ['basic', { realm: 'a, "b" \\ c=d' }],
    ['bearer', { realm: 'http://x/', scope: 'repository:a:pull' }],
  ];
  t.same(
    plain('Basic realm="a, \\"b\\" \\\\ c=d", Bearer realm="http://x/" , scope=repository:a:pull'),
    expected,
  );
  t.same(
    plain(['Basic realm="a, \\"b\\" \\\\ c=d"', 'Bearer realm="http://x/",scope=repository:a:pull']),
    expected,
  );
  t.same(plain('Negotiate, BEARER REALM = "http://x/"'), [
    ['negotiate', {}],
    ['bearer', { realm: 'http://x/' }],
  ]);
});

t.test('only a Bearer challenge with an http realm can be followed', async (t) => {
  const bearer = (header: string) => bearerOf(parseChallenges(header));
  t.same(bearer('Basic realm="http://x/", Bearer realm="https://y/t",service="s"'), {
    realm: 'https://y/t',
    service: 's',
    scope: undefined,
  });
  const said = (scope: string) => bearer(`Bearer realm="http://x/",scope="${scope}"`)?.scope;
  t.same(
    ['', ' ', 'a:b:c', 'a d'].map(said),
    [undefined, undefined, 'a:b:c', 'a d'],
    'an empty scope is none',
  );
  for (const header of [
    'Bearer',
    'Bearer realm=""',
    'Bearer realm="/token"',
    'Bearer realm="file:///etc/passwd"',
    'Bearer realm="http://["',
    'Basic realm="http://x/"',
  ]) {
    t.equal(bearer(header), undefined, header);
  }
});

t.test('what is written is read again', async (t) => {
  const value = fc.string({ unit: 'grapheme-ascii', maxLength: 40 });
  const quote = (text: string): string => `"${text.replaceAll(/["\\]/g, '\\$&')}"`;
  fc.assert(
    fc.property(value, value, value, (realm, service, scope) => {
      const [found] = plain(`Bearer realm=${quote(realm)},service=${quote(service)}, scope=${quote(scope)}`);
      return (
        found?.[0] === 'bearer' &&
        found[1]['realm'] === realm &&
        found[1]['service'] === service &&
        found[1]['scope'] === scope
      );
    }),
  );
  t.pass('every round trip held');
});

t.test('nothing throws or hangs', async (t) => {
  const piece = fc.constantFrom(
    'Bearer',
    'realm',
    '=',
    '"',
    '\\',
    ',',
    ' ',
    'http://x',
    'é',
    '\u0000',
    '==',
    '",',
  );
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.array(piece).map((parts) => parts.join('')),
      ),
      (header) => Array.isArray(parseChallenges(header)),
    ),
    { numRuns: 2000 },
  );
  const began = performance.now();
  parseChallenges('Bearer a="'.repeat(100_000));
  parseChallenges('"\\'.repeat(100_000));
  t.ok(performance.now() - began < 20_000, 'steps that grow with the square would take minutes');
});
