import { readFile, writeFile } from 'node:fs/promises';
import {
  ask,
  askAs,
  authorizationFor,
  basicOf,
  type TestUser,
} from '@sepia/test-support/clients/token-client';
import { AccountCluster, DEV, ONE_SECRET, READER } from '@sepia/test-support/cluster/account-cluster';
import { PrivateCluster, USERS } from '@sepia/test-support/cluster/private-cluster';
import { until } from '@sepia/test-support/until';
import { FakeUpstream } from '@sepia/test-support/upstream/fake-upstream';
import t from 'tap';
import { request } from 'undici';

const MIB = 1024 * 1024;

t.test(
  "a password of the cluster's own account reaches no upstream, whatever door it is tried at",
  async (t) => {
    const up = await FakeUpstream.start({ auth: USERS });
    t.teardown(() => up.stop());
    await using here = await AccountCluster.start(t.testdir(), {
      origins: 3,
      trackers: 1,
      proxies: 2,
      agents: 1,
      upstreams: [
        { name: 'local', mode: 'none' },
        { name: 'up', url: up.url, mode: 'pull-through', hosts: ['up.test'] },
      ],
    });
    const authorization = basicOf(DEV);
    const doors = [here.cluster.agents[0]!.url, ...here.cluster.proxyUrls];
    for (const door of doors) {
      const reply = await ask(`${door}/v2/alice/x/manifests/v1?ns=up.test`, { authorization });
      t.equal(reply.status, 401, door);
    }
    const heard = up.log.filter((entry) => entry.authorization === authorization);
    t.same(heard, [], 'the upstream never saw it');
    const wrong = [DEV, { username: 'nobody', password: 'x' }].map(async ({ username }) => {
      const given = basicOf({ username, password: 'wrong' });
      const reply = await ask(`${doors[1]}/token?service=up`, { authorization: given });
      return (JSON.parse(reply.bytes.toString()) as { errors: { message: string }[] }).errors[0]?.message;
    });
    const [own, strange] = await Promise.all(wrong);
    t.equal(own, strange, 'names cannot be told apart');
  },
);

t.test('an accounts file that is empty for a moment opens nothing', async (t) => {
  await using here = await AccountCluster.start(t.testdir(), {
    origins: 1,
    trackers: 0,
    proxies: 1,
    agents: 0,
  });
  const url = `${here.proxyUrl()}/token?service=sepia`;
  t.equal((await ask(url, { authorization: basicOf(READER) })).status, 200);
  await writeFile(String(here.cluster.configs.get('proxy-1')!['accounts-file']), '');
  await until(async () => {
    t.equal((await ask(url, { authorization: basicOf(DEV) })).status, 200, 'the old accounts stay');
    return here.log.lines.some((line) => JSON.stringify(line).includes('no account left'));
  }, 'the file is looked at again');
});

t.test('a manifest is not taken from an account that went while its body came', async (t) => {
  await using here = await AccountCluster.start(t.testdir(), {
    origins: 1,
    trackers: 0,
    proxies: 1,
    agents: 0,
  });
  const file = String(here.cluster.configs.get('proxy-1')!['accounts-file']);
  const accounts = await readFile(file, 'utf8');
  const type = 'application/vnd.oci.image.index.v1+json';
  const manifest = JSON.stringify({ schemaVersion: 2, mediaType: type, manifests: [] });
  const at = (tag: string): string => `${here.proxyUrl()}/v2/team/shared/app/manifests/${tag}`;
  const push = async (tag: string, authorization: string, body: string | AsyncIterable<string>) => {
    const headers = { authorization, 'content-type': type, 'content-length': String(manifest.length) };
    const answer = await request(at(tag), { method: 'PUT', headers, body: body as string });
    await answer.body.dump();
    return answer.statusCode;
  };
  const token = await authorizationFor(await ask(at('x'), {}, 'PUT', manifest), DEV);
  const ways = { basic: basicOf(DEV), token };
  for (const [way, authorization] of Object.entries(ways))
    t.equal(await push(`${way}-before`, authorization, manifest), 201, way);
  const gone = Promise.withResolvers<void>();
  const held = Object.entries(ways).map(async ([way, authorization]) => {
    const body = async function* (): AsyncGenerator<string> {
      yield manifest.slice(0, 9);
      await gone.promise;
      yield manifest.slice(9);
    };
    return await push(`${way}-held`, authorization, body());
  });
  await writeFile(file, accounts.replace(/^dev:.*$/m, ''));
  for (const authorization of Object.values(ways))
    await until(
      async () => (await ask(`${here.proxyUrl()}/v2/`, { authorization })).status === 401,
      'it comes in no more',
    );
  gone.resolve();
  t.same(await Promise.all(held), [401, 401]);
  for (const way of Object.keys(ways)) {
    t.equal((await askAs(READER, at(`${way}-before`))).status, 200, 'what was pushed before stays');
    t.equal((await askAs(READER, at(`${way}-held`))).status, 404, `no tag moved by ${way}`);
  }
});

t.test('passwords guessed on /v2 of a private upstream are limited at agents and proxies', async (t) => {
  await using here = await PrivateCluster.start(t.testdir(), {
    origins: 3,
    trackers: 1,
    proxies: 1,
    agents: 1,
  });
  here.image('alice/app', MIB);
  for (const door of [here.agentUrl(), here.cluster.proxyUrls[0]!]) {
    const before = here.upstream.requests('token').length;
    const url = `${door}/v2/alice/app/manifests/v1`;
    const statuses = await Promise.all(
      Array.from({ length: 40 }, async (_, at) => {
        const authorization = basicOf({ username: 'alice', password: `guess-${at}` });
        return (await ask(url, { authorization })).status;
      }),
    );
    t.equal(statuses.filter((one) => one === 401).length, 3, `${door}: ${statuses.join(' ')}`);
    t.equal(statuses.filter((one) => one === 429).length, 37, door);
    t.ok(here.upstream.requests('token').length - before <= 9, 'the upstream heard of a few alone');
  }
});

t.test('guesses at once at /token are limited as one after the other', async (t) => {
  await using here = await AccountCluster.start(t.testdir(), {
    origins: 1,
    trackers: 0,
    proxies: 1,
    agents: 0,
  });
  const statuses = await Promise.all(
    Array.from({ length: 40 }, async (_, at) => {
      const user = at === 30 ? DEV : { username: 'dev', password: `guess-${at}` };
      return (await ask(`${here.proxyUrl()}/token?service=sepia`, { authorization: basicOf(user) })).status;
    }),
  );
  t.notOk(statuses.includes(200), 'the right one was among those that came too late');
  t.equal(statuses.filter((one) => one === 401).length, 3);
});

t.test('the catalog is only for whom no rule withholds anything', async (t) => {
  await using here = await AccountCluster.start(t.testdir(), {
    origins: 3,
    trackers: 1,
    agents: 1,
    accounts: ONE_SECRET,
  });
  for (const door of [here.proxyUrl(), here.cluster.agents[0]!.url]) {
    t.equal((await ask(`${door}/v2/_catalog`)).status, 401, 'nobody in particular');
    t.equal((await askAs(READER, `${door}/v2/_catalog`)).status, 403, 'an account that may not read secret');
    t.equal((await askAs(DEV, `${door}/v2/_catalog`)).status, 200, 'one that may read everything');
  }
});

t.test('clients behind one TLS proxy are told apart where it is trusted, and only there', async (t) => {
  const dir = t.testdir();
  for (const isTrusted of [true, false]) {
    await using here = await AccountCluster.start(`${dir}/${isTrusted}`, {
      origins: 1,
      trackers: 0,
      proxies: 1,
      agents: 0,
      proxyListener: isTrusted ? { 'trusted-proxies': ['127.0.0.0/8'] } : {},
    });
    const url = `${here.proxyUrl()}/token?service=sepia`;
    const login = async (user: TestUser, address: string): Promise<number> =>
      (await ask(url, { authorization: basicOf(user), 'x-forwarded-for': `6.6.6.6, ${address}` })).status;
    for (let at = 0; at < 21; at++) await login({ username: `nobody-${at}`, password: 'x' }, '192.0.2.1');
    t.equal(await login(READER, '192.0.2.1'), 429, 'who guesses has to wait');
    t.equal(await login(READER, '192.0.2.2'), isTrusted ? 200 : 429, `trusted: ${isTrusted}`);
    const { address } = JSON.parse((await readFile(here.auditFile, 'utf8')).trim().split('\n').at(-1)!);
    t.equal(address, isTrusted ? '192.0.2.2' : '127.0.0.1', 'so says the audit log');
  }
});
