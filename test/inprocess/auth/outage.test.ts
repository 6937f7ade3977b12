import { ask, askAs, authorizationFor, basicOf, challengeOf } from '@sepia/test-support/clients/token-client';
import { ALICE, PrivateCluster } from '@sepia/test-support/cluster/private-cluster';
import { until } from '@sepia/test-support/until';
import type { Misbehaviour } from '@sepia/test-support/upstream/fake-upstream';
import t from 'tap';

/** What a registry that asks who is there may answer at `/v2/` while something before or in it is broken. */
const UNCLEAR: Readonly<Record<string, Misbehaviour>> = {
  '502 of a gateway': { type: 'status', status: 502 },
  '503 with Retry-After': { type: 'status', status: 503, headers: { 'retry-after': '1' } },
  '404 of a wrong route': { type: 'status', status: 404 },
  '403 of a firewall': { type: 'status', status: 403 },
  '302 to a login page': { type: 'redirect', to: '/login' },
  '204 of a health page': { type: 'status', status: 204 },
  '401 of a firewall, without a way in': { type: 'status', status: 401 },
  '401 with a token service that nobody is sent to': {
    type: 'status',
    status: 401,
    headers: { 'www-authenticate': 'Bearer realm="http://a:b@127.0.0.1/token",service="x"' },
  },
  '429': { type: 'status', status: 429 },
  'no answer': { type: 'reset' },
};

t.test(
  'what /v2/ of an upstream answers in an outage opens nothing and refuses nobody for long',
  async (t) => {
    for (const [what, does] of Object.entries(UNCLEAR))
      await t.test(what, async (t) => {
        await using here = await PrivateCluster.start(t.testdir(), {
          origins: 1,
          trackers: 1,
          proxies: 1,
          agents: 1,
        });
        here.image('alice/app', 5_000);
        here.upstream.misbehave({ kind: 'base', does });
        const bases = [here.agentUrl(), here.cluster.proxyUrls[0]!];
        for (const base of bases) {
          const names = await ask(`${base}/v2/_catalog`);
          t.not(names.status, 200, 'no catalog for nobody');
          t.notMatch(names.bytes.toString('utf8'), 'alice/app');
          const first = await ask(`${base}/v2/`);
          t.equal(first.status, 401, 'docker login is asked who is there');
          const { realm } = Object.fromEntries(challengeOf(first).params);
          const nonsense = await ask(realm!, { authorization: basicOf({ username: 'eve', password: 'x' }) });
          t.not(nonsense.status, 200, 'nonsense does not succeed');
        }
        here.upstream.behave();
        for (const base of bases)
          await until(
            async () =>
              await authorizationFor(await ask(`${base}/v2/`), ALICE).then(
                () => true,
                () => false,
              ),
            'the right password is taken',
          );
        const names = await ask(`${bases[0]}/v2/_catalog`);
        t.equal(names.status, 403, 'the catalog stays closed');
      });
  },
);

t.test('what was asked for before an outage is asked for in it', async (t) => {
  await using here = await PrivateCluster.start(t.testdir(), {
    origins: 1,
    trackers: 1,
    proxies: 1,
    agents: 1,
  });
  const image = here.image('alice/app', 5_000);
  t.equal((await askAs(ALICE, image.manifestUrl())).status, 200);
  here.upstream.misbehave({ kind: 'base', does: { type: 'status', status: 502 } });
  t.equal((await askAs(ALICE, image.manifestUrl(here.cluster.proxyUrls[0]))).status, 200);
  t.equal((await ask(`${here.agentUrl()}/v2/_catalog`)).status, 403, 'what the login learned stays');
});
