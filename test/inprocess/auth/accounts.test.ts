import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ask, askAs, basicOf, challengeOf } from '@sepia/test-support/clients/token-client';
import { AccountCluster, DEV, ONE_SECRET, pushAs, READER } from '@sepia/test-support/cluster/account-cluster';
import { until } from '@sepia/test-support/until';
import t from 'tap';

/** As docker: the challenge of `/v2/`, then a token for these scopes. */
async function tokenFor(base: string, user: typeof DEV | undefined, ...scopes: string[]): Promise<string> {
  const url = new URL(challengeOf(await ask(`${base}/v2/`)).params.get('realm')!);
  url.searchParams.set('service', 'sepia');
  for (const scope of scopes) url.searchParams.append('scope', scope);
  const reply = await ask(String(url), user === undefined ? {} : { authorization: basicOf(user) });
  if (reply.status !== 200) throw new Error(`token: ${reply.status} ${reply.bytes.toString('utf8')}`);
  return `Bearer ${(JSON.parse(reply.bytes.toString('utf8')) as { token: string }).token}`;
}

t.test('accounts: push, pull, and who may not', async (t) => {
  await using here = await AccountCluster.start(t.testdir());
  const agent = here.cluster.agents[0]!.url;
  const all = 'repository:team/shared/app:pull,push';

  await t.test('/v2/ tells docker where tokens are, at proxies and agents', async (t) => {
    for (const base of [here.proxyUrl(), agent]) {
      const reply = await ask(`${base}/v2/`);
      t.equal(reply.status, 401);
      t.equal(challengeOf(reply).params.get('realm'), `${base}/token`);
      t.equal(challengeOf(reply).params.get('service'), 'sepia');
      const authorization = await tokenFor(base, READER);
      t.equal((await ask(`${base}/v2/`, { authorization })).status, 200);
    }
    t.equal((await ask(`${here.proxyUrl()}/v2/`, { authorization: basicOf(READER) })).status, 200, 'Basic');
    const wrong = basicOf({ ...READER, password: 'x' });
    t.equal((await ask(`${here.proxyUrl()}/v2/`, { authorization: wrong })).status, 401);
  });

  const token = await tokenFor(here.proxyUrl(), DEV, all);
  const pushed = await pushAs(here, 'team/shared/app', 'v1', token);
  t.equal(pushed.status, 201, pushed.reply.bytes.toString('utf8'));
  const basic = await pushAs(here, 'team/shared/app', 'v2', basicOf(DEV));
  t.equal(basic.status, 201, 'Basic on every request');
  const layer = pushed.image.layers[0]!;
  const blob = (base: string, repository = 'team/shared/app'): string =>
    `${base}/v2/${repository}/blobs/${layer.digest}`;

  await t.test('the answer of /token is what clients need', async (t) => {
    const reply = await ask(`${here.proxyUrl(1)}/token?service=sepia&scope=${all}`, {
      authorization: basicOf(DEV),
    });
    const answer = JSON.parse(reply.bytes.toString('utf8')) as Record<string, unknown>;
    t.equal(answer['token'], answer['access_token']);
    t.equal(answer['expires_in'], 300);
    t.ok(Math.abs(Date.parse(String(answer['issued_at'])) - Date.now()) < 60_000);
    const claims = JSON.parse(
      Buffer.from(String(answer['token']).split('.')[1]!, 'base64url').toString('utf8'),
    ) as { access: unknown };
    t.same(claims.access, [
      { upstream: 'local', type: 'repository', name: 'team/shared/app', actions: ['pull', 'push'] },
    ]);
    const form = `grant_type=password&service=sepia&username=dev&password=${encodeURIComponent(DEV.password)}&scope=${encodeURIComponent(all)}`;
    const posted = await ask(
      `${agent}/token`,
      { 'content-type': 'application/x-www-form-urlencoded' },
      'POST',
      form,
    );
    t.equal(posted.status, 200, 'containerd posts a form, here to an agent');
    const asked = {
      authorization: `Bearer ${(JSON.parse(posted.bytes.toString('utf8')) as { token: string }).token}`,
    };
    t.equal((await ask(blob(agent), asked)).status, 200);
  });

  await t.test('agents verify what any proxy issued', async (t) => {
    const authorization = await tokenFor(here.proxyUrl(2), READER, 'repository:team/shared/app:pull,push');
    for (const { url } of here.cluster.agents) {
      t.ok((await ask(blob(url), { authorization })).bytes.equals(layer.bytes));
      t.equal((await ask(blob(url))).status, 401);
      t.equal((await askAs(READER, blob(url))).status, 200, 'by challenge');
      t.equal((await askAs(undefined, blob(url))).status, 401, 'anonymous');
    }
    t.equal((await pushAs(here, 'team/shared/app', 'v3', authorization)).status, 403, 'may only read');
    t.equal((await pushAs(here, 'team/shared/app', 'v3', basicOf(READER))).status, 403);
    t.equal((await pushAs(here, 'team/other', 'v1', basicOf(READER))).status, 403);
  });

  await t.test('a token for one repository opens no other, also not by mount or digest', async (t) => {
    const authorization = await tokenFor(here.proxyUrl(), DEV, 'repository:team/other:pull,push');
    const refused = await ask(blob(here.proxyUrl()), { authorization });
    t.equal(refused.status, 401);
    t.equal(challengeOf(refused).params.get('error'), 'insufficient_scope');
    t.equal((await ask(blob(here.proxyUrl(), 'team/other'), { authorization })).status, 404);
    const mount = `${here.proxyUrl()}/v2/team/other/blobs/uploads/?mount=${layer.digest}&from=team/shared/app`;
    t.equal((await ask(mount, { authorization }, 'POST')).status, 202, 'an ordinary upload');
    const ofNone = mount.replace('team/shared/app', 'Team/A');
    t.equal((await ask(ofNone, { authorization }, 'POST')).status, 202, 'of no name that is one here');
    const both = await tokenFor(
      here.proxyUrl(),
      DEV,
      'repository:team/other:pull,push',
      'repository:team/shared/app:pull',
    );
    t.equal((await ask(mount, { authorization: both }, 'POST')).status, 201, 'mounted');
  });

  await t.test('anonymous: what the rules name, by token or without', async (t) => {
    t.equal(
      (await pushAs(here, 'open/app', 'v1', basicOf(DEV))).status,
      403,
      'the first rule that fits decides',
    );
    t.equal((await ask(`${agent}/v2/open/app/manifests/v1`)).status, 404, 'allowed, not there');
    const authorization = await tokenFor(agent, undefined, 'repository:open/app:pull');
    t.equal((await ask(`${agent}/v2/open/app/manifests/v1`, { authorization })).status, 404);
    t.equal((await ask(`${agent}/v2/team/shared/app/manifests/v1`, { authorization })).status, 401);
  });

  await t.test('passwords are changed in the file', async (t) => {
    const file = join(here.cluster.dir, '..', 'htpasswd');
    const text = readFileSync(file, 'utf8');
    const given = await tokenFor(here.proxyUrl(1), READER, 'repository:team/shared/app:pull');
    const read = async (base: string, authorization: string): Promise<number> =>
      (await ask(`${base}/v2/team/shared/app/manifests/v1`, { authorization })).status;
    t.equal(await read(here.proxyUrl(), given), 200);
    writeFileSync(file, text.replace(/^reader:.*$/m, ''));
    const gone = async (): Promise<boolean> =>
      (await ask(`${here.proxyUrl()}/v2/`, { authorization: basicOf(READER) })).status === 401;
    t.ok(await until(gone, 'the account is gone'));
    t.ok(await until(async () => (await read(here.proxyUrl(), given)) === 401, 'its tokens, too'));
    t.equal(await read(here.proxyUrl(), token), 200, 'those of others count');
    t.equal((await ask(`${here.proxyUrl()}/v2/`, { authorization: basicOf(DEV) })).status, 200);
  });

  await t.test('the audit log says who did what, and no secret', async (t) => {
    const text = readFileSync(here.auditFile, 'utf8');
    const lines = text
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    t.match(
      lines.find((line) => line['event'] === 'push'),
      {
        account: 'dev',
        upstream: 'local',
        repository: 'team/shared/app',
        reference: 'v1',
        digest: pushed.image.manifestDigest,
        requestId: String,
        address: '127.0.0.1',
      },
    );
    t.match(
      lines.find((line) => line['event'] === 'login' && line['outcome'] === 'failed'),
      { account: 'reader' },
    );
    t.ok(lines.some((line) => line['event'] === 'login' && line['outcome'] === 'ok'));
    t.match(
      lines.find((line) => line['event'] === 'denied' && line['account'] === 'reader'),
      { action: 'write', repository: 'team/shared/app' },
    );
    const logs = text + JSON.stringify(here.log.lines);
    const secrets = [DEV, READER].flatMap((user) => [user.password, basicOf(user).slice(6)]);
    for (const secret of [...secrets, token.slice(7), '$2y$'])
      t.notOk(logs.includes(secret), 'secret in a log');
  });
});

t.test('anonymous-pull: everybody reads what no rule speaks of', async (t) => {
  await using here = await AccountCluster.start(t.testdir(), {
    origins: 3,
    trackers: 1,
    agents: 1,
    accounts: ONE_SECRET,
  });
  const agent = here.cluster.agents[0]!.url;
  for (const name of ['free/app', 'secret/app'])
    t.equal((await pushAs(here, name, 'v1', basicOf(DEV))).status, 201, name);
  t.equal((await ask(`${agent}/v2/free/app/manifests/v1`)).status, 200);
  t.equal((await ask(`${here.proxyUrl()}/v2/free/app/manifests/v1`)).status, 200);
  t.equal((await ask(`${agent}/v2/secret/app/manifests/v1`)).status, 401);
  t.equal((await askAs(READER, `${agent}/v2/secret/app/manifests/v1`)).status, 403);
  t.equal((await askAs(DEV, `${agent}/v2/secret/app/manifests/v1`)).status, 200);
});

t.test('guessing passwords gets slow, for the guesser', async (t) => {
  await using here = await AccountCluster.start(t.testdir(), { proxies: 1, origins: 1, agents: 1 });
  const statuses: number[] = [];
  for (let at = 0; at < 6; at++) {
    const wrong = basicOf({ username: 'dev', password: `guess-${at}` });
    const reply = await ask(`${here.proxyUrl()}/token?service=sepia`, { authorization: wrong });
    statuses.push(reply.status);
    if (reply.status === 429) t.ok(Number(reply.headers['retry-after']) >= 1);
  }
  t.same(statuses.slice(0, 3), [401, 401, 401]);
  t.ok(statuses.includes(429), statuses.join(', '));
  // Another account from there, and this one by way of an agent, are other matters.
  t.equal((await ask(`${here.proxyUrl()}/token`, { authorization: basicOf(READER) })).status, 200);
  const viaAgent = `${here.cluster.agents[0]!.url}/token`;
  t.equal((await ask(viaAgent, { authorization: basicOf(DEV) })).status, 200);
});

t.test('two proxies with other accounts say so', async (t) => {
  const dir = t.testdir({ other: 'dev:$2y$05$BUvDpC/zy1M0vknngsS.wOsYNegO.ilAt/dYcImwpX9Yr1pGtZ2a6\n' });
  await using here = await AccountCluster.start(`${dir}/a`, { origins: 1, agents: 0, proxies: 2 });
  const config = here.cluster.configs.get('proxy-2') as Record<string, unknown>;
  await here.cluster.stopMember('proxy-2');
  config['accounts-file'] = `${dir}/other`;
  await here.cluster.startMember('proxy-2');
  await until(
    () => here.log.has(/accounts-file is another than at these proxies/),
    'the difference is logged',
  );
  t.pass('seen');
});

t.test('public-url, token-life and the audit log of an agent', async (t) => {
  await using here = await AccountCluster.start(t.testdir(), {
    origins: 1,
    trackers: 1,
    proxies: 1,
    agents: 1,
    accounts: { 'token-life': '2m' },
  });
  const auditFile = join(here.cluster.dir, 'agent-audit.log');
  for (const id of ['proxy-1', 'agent-1']) {
    const config = here.cluster.configs.get(id) as {
      listeners: { listen: string; 'public-url'?: string }[];
      'audit-log'?: string;
    };
    await here.cluster.stopMember(id);
    config.listeners[0]!['public-url'] = `https://${id}.example`;
    if (id === 'agent-1') config['audit-log'] = auditFile;
    await here.cluster.startMember(id);
    const base = `http://${config.listeners[0]!.listen}`;
    for (const path of ['/v2/', '/v2/team/app/manifests/v1']) {
      const realm = challengeOf(await ask(`${base}${path}`)).params.get('realm')!;
      t.ok(realm.startsWith(`https://${id}.example/token`), `${id} ${path} ${realm}`);
    }
    const reply = await ask(`${base}/token?scope=repository:team/app:pull`, { authorization: basicOf(DEV) });
    t.match(JSON.parse(reply.bytes.toString('utf8')), { expires_in: 120 });
    await ask(`${base}/v2/team/app/manifests/v1`, { authorization: 'Bearer nonsense' });
  }
  const lines = readFileSync(auditFile, 'utf8').trim().split('\n');
  t.match(JSON.parse(lines[0]!), {
    event: 'denied',
    service: 'agent',
    member: 'agent-1',
    reason: 'invalid_token',
  });
});
