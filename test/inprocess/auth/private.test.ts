import { ask, askAs, basicOf, challengeOf } from '@sepia/test-support/clients/token-client';
import { ALICE, BOB, PrivateCluster } from '@sepia/test-support/cluster/private-cluster';
import { MIB } from '@sepia/test-support/cluster/pull-through';
import t from 'tap';

t.test('a public repository costs the upstream no request more', async (t) => {
  await using here = await PrivateCluster.start(t.testdir());
  const image = here.image('open/app', 2 * MIB);
  const first = await ask(image.manifestUrl());
  t.equal(first.status, 200);
  // One that is refused, one with a token that nobody in particular got.
  t.same(here.asked, ['GET manifest 401', 'GET manifest 200']);
  for (const base of [here.agentUrl(1), here.agentUrl(), ...here.cluster.proxyUrls]) {
    t.equal((await ask(image.manifestUrl(base))).status, 200, base);
    t.ok((await ask(image.blobUrl(base))).bytes.equals(image.content), base);
    t.equal((await ask(image.manifestUrl(base, image.manifest))).status, 200, base);
  }
  const blobs = here.asked.filter((one) => one.includes('blob'));
  t.ok(blobs.filter((one) => one.endsWith('200')).length <= 2, blobs.join(', '));
  // A busy machine may ask a second origin before the first has answered: a few, never one for each request.
  t.ok(here.asked.filter((one) => one.includes('manifest')).length <= 4, here.asked.join(', '));
  t.equal(
    (await ask(image.blobUrl(), { authorization: basicOf(BOB) })).status,
    200,
    'who brings something, too',
  );
});

t.test('a private repository: who has no right gets 401, also where the blob lies', async (t) => {
  await using here = await PrivateCluster.start(t.testdir());
  const image = here.image('both/app', 3 * MIB);
  const mine = here.image('alice/app', MIB);
  const { host } = new URL(here.agentUrl());
  const refused = await ask(image.manifestUrl());
  t.equal(refused.status, 401);
  const { scheme, params } = challengeOf(refused);
  t.same(
    { scheme, ...Object.fromEntries(params) },
    {
      scheme: 'bearer',
      realm: `http://${host}/token?ns=up`,
      service: 'fake,registry',
      scope: 'repository:both/app:pull',
    },
  );

  await t.test('cold, with the token of the one who pulls', async (t) => {
    const pulled = await askAs(ALICE, image.manifestUrl());
    t.equal(pulled.status, 200);
    const blob = await ask(image.blobUrl(), { authorization: pulled.authorization! });
    t.equal(blob.status, 200, blob.bytes.subarray(0, 300).toString('utf8'));
    t.ok(blob.bytes.equals(image.content));
    const gets = here.upstream.requests('blob', 'GET').filter((entry) => entry.status === 200);
    t.equal(gets.length, 1);
    t.equal(gets[0]!.authorization, pulled.authorization, 'fetched with the token of the client');
  });

  await t.test('warm: the agent that holds it refuses whoever may not', async (t) => {
    for (const url of [
      image.blobUrl(),
      image.manifestUrl(),
      image.manifestUrl(undefined, image.manifest),
      image.tagsUrl(),
    ]) {
      t.equal((await ask(url)).status, 401, url);
      t.equal((await ask(url, {}, 'GET')).status, 401, url);
      t.equal((await ask(url, { authorization: 'Bearer nonsense' })).status, 401, url);
    }
    t.equal((await ask(image.blobUrl(), {}, 'HEAD')).status, 401);
    for (const base of here.cluster.proxyUrls) t.equal((await ask(image.blobUrl(base))).status, 401, base);
    t.equal((await askAs(BOB, mine.manifestUrl())).status, 401, 'rights elsewhere');
  });

  await t.test('warm: who has rights is checked once and served without the upstream', async (t) => {
    const before = here.asked.length;
    const pulled = await askAs(BOB, image.manifestUrl(here.agentUrl(1)));
    t.equal(pulled.status, 200);
    const headers = { authorization: pulled.authorization! };
    t.ok((await ask(image.blobUrl(here.agentUrl(1)), headers)).bytes.equals(image.content));
    t.equal((await ask(image.manifestUrl(here.agentUrl(1), image.manifest), headers)).status, 200);
    t.equal((await ask(image.tagsUrl(here.agentUrl(1)), headers)).status, 200);
    const asked = here.upstream.log.filter((entry) => entry.host === 'registry').slice(before);
    const checks = asked.filter(
      (entry) => entry.authorization === pulled.authorization && entry.kind !== 'tags',
    );
    // Whoever is silent for a second is passed over: another one then asks too, once for all four requests.
    t.ok(checks.length === 1 || checks.length === 2, `one check: ${checks.length}`);
    t.equal(asked.filter((entry) => entry.kind === 'blob').length, 0, 'no blob');
  });

  await t.test('a token for one repository, and a digest of another, open nothing', async (t) => {
    const bobs = await askAs(BOB, image.manifestUrl());
    const bob = { authorization: bobs.authorization! };
    t.equal((await ask(mine.manifestUrl(), bob)).status, 401, 'token of another repository');
    const alices = await askAs(ALICE, mine.manifestUrl());
    const alice = { authorization: alices.authorization! };
    t.equal(
      (await ask(image.blobUrl(undefined, 'alice/app'), alice)).status,
      404,
      'digest of another repository',
    );
    t.equal((await ask(image.blobUrl(), alice)).status, 401, 'its token does not fit the other');
  });

  await t.test('no secret in any log line', async (t) => {
    const text = JSON.stringify(here.log.lines);
    t.ok(here.log.lines.length > 100);
    const tokens = here.upstream.log.flatMap((entry) => entry.authorization?.split(' ').slice(1) ?? []);
    t.ok(tokens.length > 3);
    for (const secret of [ALICE.password, BOB.password, basicOf(ALICE).slice(6), ...tokens])
      t.notOk(text.includes(secret), 'secret in a log');
  });
});

t.test('the upstream is down: what was decided is served, nothing else', async (t) => {
  await using here = await PrivateCluster.start(t.testdir());
  const image = here.image('both/app', 2 * MIB);
  const open = here.image('open/app', MIB);
  const alices = await askAs(ALICE, image.manifestUrl());
  const alice = { authorization: alices.authorization! };
  t.equal((await ask(image.blobUrl(), alice)).status, 200);
  t.equal((await ask(open.manifestUrl())).status, 200);
  t.equal((await ask(open.blobUrl())).status, 200);
  await here.upstream.down();
  t.equal((await ask(image.blobUrl(), alice)).status, 200, 'decided here');
  t.equal((await ask(image.blobUrl(here.agentUrl(1)), alice)).status, 200, 'decided in the cluster');
  t.equal((await ask(open.blobUrl(here.agentUrl(1)))).status, 200, 'public');
  const other = await ask(image.blobUrl(), { authorization: 'Bearer somebody-else' });
  t.equal(other.status, 503, 'cannot be decided');
  await here.upstream.up();
  t.equal((await ask(image.blobUrl(), { authorization: 'Bearer somebody-else' })).status, 401);
});

t.test('an upstream that speaks Basic', async (t) => {
  await using here = await PrivateCluster.start(t.testdir(), { auth: { type: 'basic', ...ALICE } });
  const image = here.image('team/app', 2 * MIB);
  t.equal(challengeOf(await ask(image.manifestUrl())).scheme, 'basic');
  t.equal(challengeOf(await ask(`${here.agentUrl()}/v2/`)).scheme, 'basic');
  t.equal((await askAs(BOB, image.manifestUrl())).status, 401);
  t.equal((await askAs(ALICE, image.manifestUrl())).status, 200);
  t.ok((await askAs(ALICE, image.blobUrl(here.agentUrl(1)))).bytes.equals(image.content));
});

t.test(
  'Harbor: a refused token is answered by Basic, clients get the Bearer challenge all the same',
  async (t) => {
    await using here = await PrivateCluster.start(t.testdir(), {
      auth: { type: 'token', ...ALICE, harborQuirk: true },
    });
    const image = here.image('team/app', MIB);
    t.equal((await askAs(ALICE, image.manifestUrl())).status, 200);
    const expired = await ask(image.manifestUrl(), { authorization: 'Bearer expired' });
    t.equal(expired.status, 401);
    t.equal(challengeOf(expired).scheme, 'bearer');
    t.equal(challengeOf(expired).params.get('error'), 'invalid_token');
    t.equal((await askAs(ALICE, image.blobUrl())).status, 200);
  },
);

t.test(
  'with a robot at the origins: it fetches once a client was accepted, and lets nobody in',
  async (t) => {
    const dir = t.testdir({ secret: ALICE.password });
    await using here = await PrivateCluster.start(`${dir}/cluster`, {
      origin: { credentials: { up: { username: ALICE.username, 'password-file': `${dir}/secret` } } },
    });
    const image = here.image('both/app', 2 * MIB);
    t.equal((await ask(image.manifestUrl())).status, 401);
    t.equal((await ask(image.blobUrl())).status, 401);
    const bobs = await askAs(BOB, image.manifestUrl());
    t.equal(bobs.status, 200);
    t.equal((await ask(image.blobUrl(), { authorization: bobs.authorization! })).status, 200);
    const [get] = here.upstream.requests('blob', 'GET').filter((entry) => entry.status === 200);
    t.not(get!.authorization, bobs.authorization, 'fetched by the robot');
  },
);

t.test('access cluster: whoever reaches the agent pulls with the credentials of the origins', async (t) => {
  const dir = t.testdir({ secret: ALICE.password });
  await using here = await PrivateCluster.start(`${dir}/cluster`, {
    upstream: { access: 'cluster' },
    origin: { credentials: { up: { username: ALICE.username, 'password-file': `${dir}/secret` } } },
  });
  const image = here.image('alice/app', MIB);
  t.equal((await ask(image.manifestUrl())).status, 200);
  t.ok((await ask(image.blobUrl())).bytes.equals(image.content));
});

t.test(
  'origins restart while the upstream is away: what was public is served, what was not is not',
  async (t) => {
    await using here = await PrivateCluster.start(t.testdir(), { origins: 3, trackers: 1, proxies: 1 });
    const open = here.image('open/app', MIB);
    const closed = here.image('both/app', MIB);
    t.equal((await ask(open.manifestUrl())).status, 200);
    t.equal((await ask(open.blobUrl())).status, 200);
    const alices = await askAs(ALICE, closed.manifestUrl());
    t.equal((await ask(closed.blobUrl(), { authorization: alices.authorization! })).status, 200);
    await here.upstream.down();
    for (const id of ['origin-1', 'origin-2', 'origin-3', 'proxy-1', 'agent-2'])
      await here.cluster.restartMember(id);
    const url = here.cluster.proxyUrls[0]!;
    t.equal((await ask(open.manifestUrl(url))).status, 200);
    t.ok((await ask(open.blobUrl(url))).bytes.equals(open.content));
    t.equal((await ask(closed.blobUrl(url))).status, 503);
    t.equal((await ask(closed.blobUrl(url), { authorization: alices.authorization! })).status, 503);
  },
);
