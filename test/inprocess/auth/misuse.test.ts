import { randomBytes } from 'node:crypto';
import { connect } from 'node:net';
import { AccessTokens } from '@sepia/face/access/access-tokens';
import { peekClaims } from '@sepia/face/access/authorization';
import { ask, askAs, authorizationFor, basicOf, challengeOf } from '@sepia/test-support/clients/token-client';
import { AccountCluster, DEV, pushAs } from '@sepia/test-support/cluster/account-cluster';
import { ALICE, PrivateCluster, USERS } from '@sepia/test-support/cluster/private-cluster';
import { FakeUpstream, makeImage } from '@sepia/test-support/upstream/fake-upstream';
import { SignJWT } from 'jose';
import t from 'tap';

const GRANT = { upstream: 'local', type: 'repository' as const, name: 'team/app', actions: ['pull', 'push'] };

function encode(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url');
}

t.test('tokens that nobody here issued, or not for this', async (t) => {
  await using here = await AccountCluster.start(t.testdir(), {
    origins: 1,
    trackers: 1,
    proxies: 1,
    agents: 1,
  });
  t.equal((await pushAs(here, 'team/app', 'v1', basicOf(DEV))).status, 201);
  const urls = [here.proxyUrl(), here.cluster.agents[0]!.url].map(
    (base) => `${base}/v2/team/app/manifests/v1`,
  );
  const holder = { account: 'dev', access: [GRANT] };
  const nowMs = (): number => Date.now();
  const elsewhere = new AccessTokens({ clusterKey: randomBytes(32), nowMs });
  const seconds = Math.floor(Date.now() / 1000);
  const claims = { iss: 'sepia', sub: 'dev', iat: seconds, exp: seconds + 300, access: [GRANT] };
  const good = await authorizationFor(await ask(urls[0]!), DEV);
  const [head, body, signature] = good.slice('Bearer '.length).split('.') as [string, string, string];
  const other = { ...JSON.parse(Buffer.from(body, 'base64url').toString('utf8')), sub: 'reader' };
  const tokens: Record<string, string> = {
    'of another cluster key': await elsewhere.issue(holder, 'sepia', 300_000),
    'alg none': `${encode({ alg: 'none', typ: 'JWT' })}.${encode(claims)}.`,
    'alg none, with a signature': `${encode({ alg: 'none' })}.${encode(claims)}.${signature}`,
    'signed with a key that everybody knows': await new SignJWT(claims)
      .setProtectedHeader({ alg: 'HS256' })
      .sign(new Uint8Array(32)),
    'another account under the same signature': `${head}.${encode(other)}.${signature}`,
    'no token at all': 'x',
    'a signed call of a member': 'Sepia v=1',
  };
  for (const [what, token] of Object.entries(tokens))
    for (const url of urls) {
      const reply = await ask(url, { authorization: `Bearer ${token}` });
      t.equal(reply.status, 401, what);
      t.equal(challengeOf(reply).scheme, 'bearer', what);
    }
  for (const url of urls) t.equal((await ask(url, { authorization: good })).status, 200, 'the good one');
});

t.test('expired tokens, and those for another upstream', async (t) => {
  let offsetMs = 0;
  const key = randomBytes(32);
  const tokens = new AccessTokens({ clusterKey: key, nowMs: () => Date.now() + offsetMs });
  const token = await tokens.issue({ account: 'dev', access: [GRANT] }, 'sepia', 60_000);
  t.match(await tokens.verify(token), { account: 'dev', access: [GRANT] });
  offsetMs = 120_000;
  t.equal(await tokens.verify(token), undefined, 'expired');
  await using here = await AccountCluster.start(t.testdir(), {
    origins: 1,
    trackers: 1,
    proxies: 1,
    agents: 1,
    upstreams: [
      { name: 'local', mode: 'none' },
      { name: 'second', mode: 'none', hosts: ['second.test'] },
    ],
  });
  const first = await ask(`${here.proxyUrl()}/v2/team/app/manifests/v1`);
  const authorization = await authorizationFor(first, DEV);
  t.equal((await ask(`${here.proxyUrl()}/v2/team/app/manifests/v1`, { authorization })).status, 404);
  for (const base of [here.proxyUrl(), here.cluster.agents[0]!.url]) {
    const reply = await ask(`${base}/v2/team/app/manifests/v1?ns=second.test`, { authorization });
    t.equal(reply.status, 401, 'the same name at another upstream');
    t.equal(challengeOf(reply).params.get('error'), 'insufficient_scope');
  }
  const pushed = 'repository:team/app:pull,push';
  const source = 'repository:second.test/team/app:pull';
  const own = [{ upstream: 'local', type: 'repository', name: 'team/app', actions: ['pull', 'push'] }];
  for (const scopes of [
    [pushed, source],
    [source, pushed],
  ]) {
    // As clients ask that would mount what they pulled from another upstream by the same address.
    const query = scopes.map((scope) => `scope=${encodeURIComponent(scope)}`).join('&');
    const reply = await ask(`${here.proxyUrl()}/token?${query}`, { authorization: basicOf(DEV) });
    t.equal(reply.status, 200, 'two upstreams in one request');
    const answer = JSON.parse(reply.bytes.toString('utf8')) as { token: string };
    t.same(peekClaims(answer.token)?.['access'], own, 'a token is for the one that is pushed to');
  }
});

t.test('no host is asked because a request names it, and credentials stay where they belong', async (t) => {
  const trap = await FakeUpstream.start();
  t.teardown(() => trap.stop());
  const second = await FakeUpstream.start({ auth: USERS });
  t.teardown(() => second.stop());
  const dir = t.testdir();
  const up = await FakeUpstream.start({ auth: USERS });
  t.teardown(() => up.stop());
  const image = makeImage({ layers: [400_000], seed: 'misuse' });
  up.push('both/app', image, 'v1');
  await using here = await PrivateCluster.start(dir, {
    upstreams: [
      { name: 'up', url: up.url, mode: 'pull-through' },
      { name: 'second', url: second.url, mode: 'pull-through', hosts: ['second.test'] },
    ],
  });
  const bases = [here.agentUrl(), here.cluster.proxyUrls[0]!];

  await t.test('ns and scopes of unknown hosts', async (t) => {
    for (const base of bases) {
      const headers = { authorization: basicOf(ALICE) };
      t.equal((await ask(`${base}/v2/both/app/manifests/v1?ns=${trap.host}`, headers)).status, 404);
      t.equal((await ask(`${base}/token?ns=${trap.host}&scope=repository:a/b:pull`, headers)).status, 404);
      await ask(`${base}/token?service=${trap.host}&scope=repository:${trap.host}/a/b:pull`, headers);
    }
    t.equal(trap.log.length, 0, 'nobody asked it');
  });

  await t.test('a token of one upstream is not shown to the other', async (t) => {
    const pulled = await askAs(ALICE, `${bases[0]}/v2/both/app/manifests/v1`);
    t.equal(pulled.status, 200);
    const headers = { authorization: pulled.authorization! };
    t.equal((await ask(`${bases[0]}/v2/both/app/manifests/v1?ns=second.test`, headers)).status, 401);
    t.notOk(
      second.log.some((entry) => entry.authorization === pulled.authorization),
      'not shown',
    );
  });

  await t.test('the realm: Host decides, forwarded headers do not, what is no host is refused', async (t) => {
    const url = `${bases[0]}/v2/both/app/manifests/v1`;
    const forwarded = {
      'x-forwarded-host': trap.host,
      'x-forwarded-proto': 'https',
      forwarded: `host=${trap.host};proto=https`,
    };
    const realm = challengeOf(await ask(url, forwarded)).params.get('realm');
    t.equal(realm, `${bases[0]}/token?ns=up`);
    for (const host of ['evil"x', 'a b', 'user@evil', 'evil/path', ''])
      t.match(await rawStatus(bases[0]!, `Host: ${host}\r\n`), /^(?:400|401 own)$/, host);
  });

  await t.test('a huge Authorization is refused, not passed on', async (t) => {
    const before = up.log.length;
    for (const base of bases) {
      const big = await ask(`${base}/v2/both/app/manifests/v1`, {
        authorization: `Bearer ${'a'.repeat(20_000)}`,
      });
      t.equal(big.status, 400, base);
      const status = await rawStatus(base, `Host: x\r\nAuthorization: Bearer ${'a'.repeat(60_000)}\r\n`);
      t.match(status, /^(?:431|closed)$/, base);
    }
    t.notOk(up.log.slice(before).some((entry) => (entry.authorization?.length ?? 0) > 10_000));
  });

  await t.test('no Authorization follows a redirect to other storage', async (t) => {
    up.misbehave({ kind: 'blob', method: 'GET', does: { type: 'redirect' } });
    const url = `${bases[0]}/v2/both/app/blobs/${image.layers[0]}`;
    const pulled = await askAs(ALICE, url);
    t.equal(pulled.status, 200, pulled.bytes.subarray(0, 200).toString('utf8'));
    const stored = up.requests('store');
    t.ok(stored.length > 0);
    t.ok(stored.every((entry) => entry.authorization === undefined));
  });
});

/** The status of a request whose headers no client library would send; `401 own` where its realm is our address. */
async function rawStatus(base: string, headers: string): Promise<string> {
  const { hostname, port } = new URL(base);
  return await new Promise((resolve) => {
    const socket = connect(Number(port), hostname, () =>
      socket.write(`GET /v2/both/app/manifests/v1 HTTP/1.1\r\n${headers}Connection: close\r\n\r\n`),
    );
    let text = '';
    socket.on('data', (chunk) => {
      text += chunk.toString('utf8');
    });
    socket.on('error', () => undefined);
    socket.on('close', () => {
      const status = /^HTTP\/1\.1 (\d+)/.exec(text)?.[1] ?? 'closed';
      resolve(status === '401' && text.includes(`realm="${base}/`) ? '401 own' : status);
    });
  });
}
