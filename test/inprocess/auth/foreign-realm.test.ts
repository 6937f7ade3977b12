import { ask, basicOf, challengeOf } from '@sepia/test-support/clients/token-client';
import { ALICE, PrivateCluster } from '@sepia/test-support/cluster/private-cluster';
import t from 'tap';

/** More than an account may be wrong at an address before it has to wait. */
const TRIES = 5;

t.test(
  'a token service that no password is shown to does not say that one is wrong, nor make its account wait',
  async (t) => {
    await using here = await PrivateCluster.start(t.testdir(), { trackers: 1, proxies: 1, agents: 1 });
    const headers = { 'www-authenticate': 'Bearer realm="http://169.254.169.254/token",service="x"' };
    here.upstream.misbehave({ kind: 'base', does: { type: 'status', status: 401, headers } });
    for (const base of [here.agentUrl(), here.cluster.proxyUrls[0]!]) {
      const url = new URL(challengeOf(await ask(`${base}/v2/`)).params.get('realm')!);
      url.searchParams.set('scope', 'repository:team/app:pull');
      for (let tries = 1; tries <= TRIES; tries += 1) {
        const reply = await ask(url.href, { authorization: basicOf(ALICE) });
        t.equal(reply.status, 403, `try ${tries}`);
        t.match(reply.bytes.toString('utf8'), /no password is shown to it .*realm-hosts/);
      }
    }
    t.same(here.upstream.requests('token'), []);
  },
);
