import { ask, basicOf, challengeOf } from '@sepia/test-support/clients/token-client';
import { ALICE, PrivateCluster } from '@sepia/test-support/cluster/private-cluster';
import t from 'tap';

const WRONG = { username: ALICE.username, password: 'a typo' };

/** Slower than any member is waited for before another one is asked beside it. */
const SLOW_MS = 4_000;

t.test('a login is one try at the token service, however slow it is', async (t) => {
  await using here = await PrivateCluster.start(t.testdir());
  here.upstream.misbehave({ kind: 'token', does: { type: 'delay', ms: SLOW_MS } });
  for (const base of [here.agentUrl(), here.cluster.proxyUrls[0]!]) {
    const { realm, scope = '' } = Object.fromEntries(challengeOf(await ask(`${base}/v2/`)).params);
    const url = `${realm}${realm!.includes('?') ? '&' : '?'}scope=${scope}`;
    const tries = (): number =>
      here.upstream.requests('token').filter((entry) => entry.authorization !== undefined).length;
    const before = tries();
    t.equal((await ask(url, { authorization: basicOf(WRONG) })).status, 401, 'a typo');
    t.equal(tries(), before + 1, 'one try');
    t.equal((await ask(url, { authorization: basicOf(ALICE) })).status, 200, 'the right one just after');
    t.ok(tries() <= before + 2);
  }
});

t.test('a password shown on /v2 is one try for each time that the client shows it, or fewer', async (t) => {
  await using here = await PrivateCluster.start(t.testdir(), { auth: { type: 'basic', ...ALICE } });
  const image = here.image('team/app', 5_000);
  here.upstream.misbehave({ kind: 'manifest', method: 'HEAD', does: { type: 'delay', ms: SLOW_MS } });
  here.upstream.misbehave({ kind: 'manifest', method: 'GET', does: { type: 'delay', ms: SLOW_MS } });
  here.upstream.misbehave({ kind: 'blob', does: { type: 'delay', ms: SLOW_MS } });
  const shown = (): number =>
    here.upstream.log.filter((entry) => entry.authorization?.startsWith('Basic ') === true).length;
  for (const [at, base] of [here.agentUrl(), here.cluster.proxyUrls[0]!].entries()) {
    const before = shown();
    const authorization = basicOf({ ...WRONG, password: `a typo ${at}` });
    const answers = await Promise.all(
      [image.manifestUrl(base), image.blobUrl(base)].map(
        async (url) => (await ask(url, { authorization })).status,
      ),
    );
    t.ok(
      answers.every((status) => status === 401 || status === 429),
      String(answers),
    );
    t.ok(shown() > before && shown() <= before + answers.length, `shown ${shown() - before} times for two`);
    t.equal((await ask(image.manifestUrl(base), { authorization: basicOf(ALICE) })).status, 200);
  }
});
