import { ExpiringMap } from '@sepia/base/expiring-map';
import { fc } from '@sepia/test-support/property';
import t from 'tap';
import {
  believableUntilMs,
  expiryMs,
  hashOf,
  parseBasic,
  parseBearer,
  peekClaims,
} from '../../src/access/authorization.ts';
import { actionsOf, parseRepositoryScope, repositoryScope, splitScopes } from '../../src/access/scope.ts';

const BOX = { interruptAfterTimeLimit: 2_000, markInterruptAsFailure: false };

t.test('Basic: what was written is read, a colon belongs to the password', async (t) => {
  t.same(parseBasic(`Basic ${Buffer.from('robot$a:p:w').toString('base64')}`), {
    username: 'robot$a',
    password: 'p:w',
  });
  for (const bad of [
    undefined,
    '',
    'Basic',
    'Basic !',
    'Bearer x',
    `Basic ${Buffer.from('nocolon').toString('base64')}`,
  ])
    t.equal(parseBasic(bad), undefined, String(bad));
  fc.assert(
    fc.property(fc.string({ minLength: 1 }), fc.string(), (name, password) => {
      const username = name.replaceAll(':', '-');
      const text = Buffer.from(`${username}:${password}`, 'utf8');
      const read = parseBasic(`Basic ${text.toString('base64')}`);
      return text.toString('utf8') === `${read?.username}:${read?.password}`;
    }),
    BOX,
  );
});

t.test('no header makes the readers throw', async (t) => {
  fc.assert(
    fc.property(fc.string(), (text) => {
      for (const header of [text, `Bearer ${text}`, `Basic ${text}`, `Bearer a.${text}.b`]) {
        parseBasic(header);
        parseBearer(header);
        expiryMs(header);
        peekClaims(header);
      }
      parseRepositoryScope(text);
      return hashOf(text).length === 43;
    }),
    BOX,
  );
  t.pass('none did');
});

t.test('the expiry that a token tells', async (t) => {
  const tokenOf = (claims: object): string =>
    `Bearer e30.${Buffer.from(JSON.stringify(claims)).toString('base64url')}.x`;
  t.equal(expiryMs(tokenOf({ exp: 12 })), 12_000);
  for (const claims of [{}, { exp: '12' }, { exp: null }, []]) t.equal(expiryMs(tokenOf(claims)), undefined);
});

t.test('scopes: repeated or joined, names with host and port, several actions', async (t) => {
  t.same(splitScopes(['repository:a:pull repository:b:push', 'repository:a:pull', '']), [
    'repository:a:pull',
    'repository:b:push',
  ]);
  t.equal(splitScopes(Array.from({ length: 1000 }, (_, at) => `repository:r${at}:pull`)).length, 64);
  t.same(splitScopes(['x'.repeat(2000)]), []);
  t.same(parseRepositoryScope('repository:registry.example:5000/a/b:pull,push'), {
    name: 'registry.example:5000/a/b',
    actions: ['pull', 'push'],
  });
  t.same(parseRepositoryScope('repository(plugin):a/b:*'), { name: 'a/b', actions: ['*'] });
  for (const other of ['registry:catalog:*', 'repository:a', '', 'repository::pull'])
    t.equal(parseRepositoryScope(other), undefined, other);
  t.equal(repositoryScope('a/b', ['pull', 'push']), 'repository:a/b:pull,push');
  t.same([...actionsOf(['pull', 'nonsense'])], ['read']);
  t.same([...actionsOf(['*'])], ['read', 'write', 'delete']);
});

t.test('an expiring map forgets in time and keeps its limit', async (t) => {
  const map = new ExpiringMap<number>(2);
  map.set('a', 1, 100);
  map.set('b', 2, 300);
  t.equal(map.get('a', 99), 1);
  t.equal(map.leftMs('a', 40), 60);
  t.equal(map.get('a', 100), undefined);
  map.set('c', 3, 300);
  map.set('d', 4, 300);
  t.equal(map.size, 2);
  t.equal(map.get('b', 0), undefined, 'the oldest went');
  map.delete('c');
  t.equal(map.leftMs('c', 0), 0);
});

t.test('how long credentials are believable: never beyond an end that is known', async (t) => {
  const jwt = `x.${Buffer.from(JSON.stringify({ exp: 2 })).toString('base64url')}.y`;
  t.equal(believableUntilMs(`Bearer ${jwt}`, 1_000), 2_000, 'it says so itself');
  t.equal(believableUntilMs(`Bearer ${jwt}`, 1_000, 9_000), 2_000);
  t.equal(believableUntilMs('Bearer opaque', 1_000, 3_000), 3_000, 'it was handed out here');
  t.equal(believableUntilMs('Bearer opaque', 1_000), 11_000, 'nobody knows');
  t.equal(believableUntilMs('Basic YTpi', 1_000), Number.MAX_SAFE_INTEGER, 'a password has no end');
});
