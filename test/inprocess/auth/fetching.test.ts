import { ask, askAs, challengeOf } from '@sepia/test-support/clients/token-client';
import { ALICE, BOB, PrivateCluster } from '@sepia/test-support/cluster/private-cluster';
import { MIB, PATIENT } from '@sepia/test-support/cluster/pull-through';
import { until } from '@sepia/test-support/until';
import t from 'tap';

const QUICK = {
  origin: { deadlines: { 'fetch-progress': '4s', 'first-byte': '4s', drain: '0s' } },
  agent: {
    'back-to-source': { mode: 'never' },
    deadlines: { 'download-progress': '3s', 'body-stall': '4s' },
  },
};

/** The blob comes slowly until the returned function is called. */
function slow(here: PrivateCluster, digest: string): () => void {
  const rule = { kind: 'blob', method: 'GET', path: digest } as const;
  return here.upstream.misbehave({ ...rule, does: { type: 'slow', bytesPerSec: 4 * MIB } });
}

/** Ends all connections to the upstream; this token is of no use any more. */
async function cutAndRevoke(here: PrivateCluster, authorization: string): Promise<void> {
  here.upstream.revoke(authorization);
  await here.upstream.down();
  await here.upstream.up();
}

t.test(
  'the token that fetches runs out midway: that of another accepted client goes on by Range',
  async (t) => {
    await using here = await PrivateCluster.start(t.testdir(), PATIENT);
    const image = here.image('both/app', 12 * MIB);
    const bobs = await askAs(BOB, image.manifestUrl(here.agentUrl(1)));
    t.equal(bobs.status, 200);
    const alices = await askAs(ALICE, image.manifestUrl());
    const quick = slow(here, image.layer);
    const pulling = ask(image.blobUrl(), { authorization: alices.authorization! });
    const first = await until(
      () => here.upstream.requests('blob', 'GET').find((entry) => entry.sentBytes > MIB),
      'the fetch is under way',
    );
    t.equal(first.authorization, alices.authorization, 'in the name of the client that was accepted last');
    await cutAndRevoke(here, alices.authorization!);
    quick();
    const pulled = await pulling;
    t.equal(pulled.status, 200);
    t.ok(pulled.bytes.equals(image.content));
    const resumed = here.upstream.requests('blob', 'GET').filter((entry) => entry.status === 206);
    t.ok(resumed.length >= 1);
    t.ok(resumed.every((entry) => entry.authorization === bobs.authorization && entry.range !== undefined));
    const sent = here.upstream.requests('blob', 'GET').reduce((sum, entry) => sum + entry.sentBytes, 0);
    t.ok(sent <= image.content.length + 2 * MIB, `${sent} bytes left the upstream`);
  },
);

t.test('the only token runs out midway: an error, and the next client gets the rest', async (t) => {
  await using here = await PrivateCluster.start(t.testdir(), QUICK);
  const image = here.image('both/app', 12 * MIB);
  const alices = await askAs(ALICE, image.manifestUrl());
  const quick = slow(here, image.layer);
  const pulling = ask(image.blobUrl(), { authorization: alices.authorization! }).catch(() => undefined);
  await until(
    () => here.upstream.requests('blob', 'GET').some((entry) => entry.sentBytes > MIB),
    'the fetch is under way',
  );
  await cutAndRevoke(here, alices.authorization!);
  quick();
  const pulled = await pulling;
  // On a busy machine the first piece is not through yet: then it is an answer.
  t.ok(
    pulled === undefined || pulled.status === 503,
    'cut, or an error before the first byte, never completed wrong',
  );
  const bobs = await askAs(BOB, image.blobUrl());
  t.equal(bobs.status, 200);
  t.ok(bobs.bytes.equals(image.content));
});

t.test('fetch-with robot: a client that is accepted lends nothing', async (t) => {
  await using here = await PrivateCluster.start(t.testdir(), {
    ...QUICK,
    upstream: { 'fetch-with': 'robot' },
  });
  const image = here.image('both/app', 2 * MIB);
  const alices = await askAs(ALICE, image.manifestUrl());
  t.equal(alices.status, 200, 'the manifest is the check itself');
  const blob = await ask(image.blobUrl(), { authorization: alices.authorization! });
  t.equal(blob.status, 401, 'there is no robot');
  t.notOk(here.upstream.requests('blob', 'GET').some((entry) => entry.status === 200));
});

t.test('fetch-with client: the robot never fetches', async (t) => {
  const dir = t.testdir({ secret: ALICE.password });
  await using here = await PrivateCluster.start(`${dir}/cluster`, {
    upstream: { 'fetch-with': 'client' },
    origin: { credentials: { up: { username: ALICE.username, 'password-file': `${dir}/secret` } } },
  });
  const image = here.image('both/app', 2 * MIB);
  const bobs = await askAs(BOB, image.manifestUrl());
  t.equal((await ask(image.blobUrl(), { authorization: bobs.authorization! })).status, 200);
  const gets = here.upstream.requests('blob', 'GET').filter((entry) => entry.status === 200);
  t.same(
    gets.map((entry) => entry.authorization),
    [bobs.authorization],
  );
});

t.test(
  'a silent cluster: the agent checks at the upstream itself, where back-to-source allows it',
  async (t) => {
    await using here = await PrivateCluster.start(t.testdir(), {
      origins: 1,
      trackers: 1,
      proxies: 1,
      agents: 1,
      agent: { 'back-to-source': { mode: 'auto', after: '100ms' } },
    });
    const seen = here.image('both/seen', MIB);
    const open = here.image('open/app', MIB);
    const alices = await askAs(ALICE, seen.manifestUrl());
    const alice = { authorization: alices.authorization! };
    t.equal((await ask(seen.blobUrl(), alice)).status, 200);
    for (const id of ['proxy-1', 'tracker-1', 'origin-1']) await here.cluster.stopMember(id);
    t.equal((await ask(open.manifestUrl())).status, 200, 'public');
    t.ok((await ask(open.blobUrl())).bytes.equals(open.content));
    t.equal((await ask(seen.blobUrl(), alice)).status, 200, 'from the cache');
    const refused = await ask(seen.blobUrl(), { authorization: 'Bearer another' });
    t.equal(refused.status, 401, 'the cache is not open to everybody');
    t.equal(challengeOf(refused).params.get('scope'), 'repository:both/seen:pull');
    t.equal((await ask(seen.blobUrl())).status, 401);
  },
);
