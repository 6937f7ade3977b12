import { parseDigest } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { parseRepositoryName } from '@sepia/base/names/repository';
import type { AccessAnswer } from '@sepia/cluster/api/access';
import { Cluster } from '@sepia/cluster/cluster';
import { parseClusterDocument } from '@sepia/cluster/load-document';
import t from 'tap';
import { StrangerAccess } from '../../src/strangers/stranger-access.ts';

const HUB = { name: 'hub', url: 'https://hub.example', mode: 'pull-through' };
const LOCAL = { name: 'local', mode: 'none' };
const RULES = {
  rules: [
    { who: ['anonymous'], repositories: ['open/**'], actions: ['read'] },
    { who: ['*'], repositories: ['**'], actions: ['read'] },
  ],
};

/** Whether a stranger may have a blob of a repository, and how often the upstream was asked. */
async function outcome(
  document: object,
  upstream: string,
  repository: string,
  says: AccessAnswer | CodedError = { verdict: 'denied', message: 'no' },
): Promise<{ code: string; asked: number }> {
  let asked = 0;
  const text = JSON.stringify({ version: 1, members: [], upstreams: [LOCAL, HUB], ...document });
  const access = new StrangerAccess({
    cluster: new Cluster(parseClusterDocument(text, 'test')),
    check: async (_name, _item, authorization) => {
      asked += 1;
      if (authorization !== undefined) throw new TypeError('asked with credentials');
      if (says instanceof CodedError) throw says;
      return says;
    },
  });
  const name = {
    upstream,
    repository: parseRepositoryName(repository),
    digest: parseDigest(`sha256:${'a'.repeat(64)}`),
  };
  return await access.require(name).then(
    () => ({ code: 'OK', asked }),
    (error: CodedError) => ({ code: error.code, asked }),
  );
}

const policy = (strangers: string) => ({ policies: { strangers } });
const PUBLIC = policy('public-repositories');

t.test('never is never, and the default', async (t) => {
  t.match(await outcome({}, 'local', 'team/app'), { code: 'AUTH_DENIED' });
  t.match(await outcome(policy('never'), 'hub', 'team/app', { verdict: 'public', ttlMs: 1 }), {
    code: 'AUTH_DENIED',
    asked: 0,
  });
});

t.test('always asks nobody', async (t) => {
  t.same(await outcome(policy('always'), 'hub', 'secret/app'), { code: 'OK', asked: 0 });
});

t.test(
  'public: the upstream decides, asked without credentials, whatever access says of the cluster',
  async (t) => {
    t.same(await outcome(PUBLIC, 'hub', 'team/app', { verdict: 'public', ttlMs: 1 }), {
      code: 'OK',
      asked: 1,
    });
    const challenge = { scheme: 'basic' } as const;
    for (const says of [
      { verdict: 'challenge', challenge } as const,
      { verdict: 'granted', ttlMs: 1 } as const,
      { verdict: 'denied', message: 'no' } as const,
    ])
      t.same(await outcome(PUBLIC, 'hub', 'team/app', says), { code: 'AUTH_DENIED', asked: 1 }, says.verdict);
    const open = { ...PUBLIC, upstreams: [LOCAL, { ...HUB, access: 'cluster' }] };
    t.same(await outcome(open, 'hub', 'team/app'), { code: 'AUTH_DENIED', asked: 1 }, 'access: cluster');
    t.match(await outcome(PUBLIC, 'hub', 'team/app', new CodedError('BACKEND_DOWN')), {
      code: 'BACKEND_DOWN',
    });
  },
);

t.test(
  'public in mode none: all where there are no accounts, else what the anonymous may read',
  async (t) => {
    t.same(await outcome(PUBLIC, 'local', 'team/app'), { code: 'OK', asked: 0 });
    const accounts = { ...PUBLIC, accounts: RULES };
    t.match(await outcome(accounts, 'local', 'open/app'), { code: 'OK' });
    t.match(
      await outcome(accounts, 'local', 'team/app'),
      { code: 'AUTH_DENIED' },
      'every account is not everybody',
    );
  },
);
