import { ACCOUNTS_SCHEMA } from '@sepia/cluster/accounts-document';
import { Cluster } from '@sepia/cluster/cluster';
import { parseClusterDocument } from '@sepia/cluster/load-document';
import t from 'tap';
import { AccessRules, accessMode } from '../../src/access/rules.ts';

const rulesOf = (accounts: object): AccessRules => new AccessRules(ACCOUNTS_SCHEMA.parse(accounts));
const at = (repository: string, upstream = 'local') => ({ upstream, repository });

t.test('the first rule that fits account, upstream and repository decides', async (t) => {
  const rules = rulesOf({
    groups: { team: ['ann', 'ben'] },
    rules: [
      { who: ['eve'], repositories: ['**'], actions: [] },
      { who: ['group:team'], repositories: ['team/**'], actions: ['read', 'write'] },
      { who: ['ann'], repositories: ['team/**'], actions: ['delete'] },
      { who: ['*'], repositories: ['shared/*'], actions: ['read'] },
      { who: ['anonymous'], repositories: ['open/{a,b}'], actions: ['read'] },
      { who: ['ann'], upstream: 'other', repositories: ['**'], actions: ['read'] },
    ],
  });
  const cases: [string | undefined, ReturnType<typeof at>, string[]][] = [
    ['ann', at('team/app'), ['read', 'write']],
    ['ann', at('team'), ['read', 'write']],
    ['ben', at('team/deep/er/app'), ['read', 'write']],
    ['eve', at('shared/x'), []],
    ['joe', at('shared/x'), ['read']],
    ['joe', at('shared/x/y'), []],
    ['joe', at('team/app'), []],
    ['joe', at('open/a'), []],
    [undefined, at('open/a'), ['read']],
    [undefined, at('open/c'), []],
    [undefined, at('shared/x'), []],
    ['ann', at('any/thing', 'other'), ['read']],
    ['ann', at('any/thing'), []],
  ];
  for (const [account, target, expected] of cases)
    t.same(
      [...rules.allowed(account, target)],
      expected,
      `${account} ${target.upstream} ${target.repository}`,
    );
});

t.test('anonymous-pull stands behind the last rule, for accounts too', async (t) => {
  const rules = rulesOf({
    'anonymous-pull': true,
    rules: [{ who: ['*', 'anonymous'], repositories: ['secret/**'], actions: [] }],
  });
  for (const account of [undefined, 'ann']) {
    t.same([...rules.allowed(account, at('app'))], ['read']);
    t.same([...rules.allowed(account, at('secret/app'))], []);
  }
  t.same([...rulesOf({}).allowed('ann', at('app'))], []);
});

t.test('names of accounts are no properties of objects', async (t) => {
  const rules = rulesOf({
    groups: { team: ['ann'] },
    rules: [{ who: ['group:team'], repositories: ['**'], actions: ['read'] }],
  });
  for (const account of ['constructor', '__proto__', 'toString', 'team', 'group:team'])
    t.equal(rules.allowed(account, at('app')).size, 0, account);
});

t.test('a mistake in the document is named by its key', async (t) => {
  const documentOf = (parts: object): string =>
    JSON.stringify({ version: 1, members: [], upstreams: [{ name: 'local', mode: 'none' }], ...parts });
  const rule = { who: ['ann'], repositories: ['team/**'], actions: ['read'] };
  const LOCAL = { name: 'local', mode: 'none' };
  const HUB = { name: 'hub', mode: 'pull-through', url: 'https://hub.example' };
  const cases: [object, RegExp][] = [
    [
      { accounts: { rules: [{ ...rule, who: ['group:none'] }] } },
      /accounts\.rules\.0\.who: there is no group none/,
    ],
    [{ accounts: { rules: [{ ...rule, who: ['a:b'] }] } }, /accounts\.rules\.0\.who\.0/],
    [{ accounts: { rules: [{ ...rule, repositories: ['a//b'] }] } }, /accounts\.rules\.0\.repositories\.0/],
    [
      { accounts: { rules: [{ ...rule, upstream: 'x' }] } },
      /accounts\.rules\.0\.upstream: there is no upstream x/,
    ],
    [
      { upstreams: [LOCAL, HUB], accounts: { rules: [{ ...rule, upstream: 'hub' }] } },
      /accounts\.rules\.0\.upstream: hub has access upstream, so this rule is never asked: write access: acc/,
    ],
    [{ upstreams: [HUB], accounts: { rules: [rule] } }, /accounts: no upstream has access accounts/],
    [{ accounts: { 'token-life': '1s' } }, /accounts\.token-life: is at least 1m, not 1s/],
    [{ accounts: { token: 1 } }, /unknown key accounts\.token/],
    [
      { upstreams: [{ name: 'l', mode: 'none', access: 'accounts' }] },
      /upstreams\.0\.access: accounts needs/,
    ],
    [{ upstreams: [{ name: 'l', mode: 'none', access: 'upstream' }] }, /upstreams\.0\.access: mode none/],
  ];
  for (const [parts, message] of cases)
    t.throws(() => parseClusterDocument(documentOf(parts), 'doc'), { code: 'CONFIG_INVALID', message });
});

t.test('who decides, where the document does not say', async (t) => {
  const clusterOf = (accounts: object | undefined): Cluster =>
    new Cluster(
      parseClusterDocument(
        JSON.stringify({
          version: 1,
          members: [],
          upstreams: [
            { name: 'local', mode: 'none' },
            { name: 'open', mode: 'none', access: 'cluster' },
            { name: 'hub', mode: 'pull-through', url: 'http://127.0.0.1:1' },
            { name: 'all', mode: 'pull-through', url: 'http://127.0.0.1:2', access: 'cluster' },
          ],
          ...(accounts === undefined ? {} : { accounts }),
        }),
        'doc',
      ),
    );
  const modes = (cluster: Cluster) =>
    ['local', 'open', 'hub', 'all'].map((name) => accessMode(cluster, name));
  t.same(modes(clusterOf(undefined)), ['cluster', 'cluster', 'upstream', 'cluster']);
  t.same(modes(clusterOf({})), ['accounts', 'cluster', 'upstream', 'cluster']);
});
