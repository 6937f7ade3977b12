import { ask, askAs } from '@sepia/test-support/clients/token-client';
import { ALICE, PrivateCluster, USERS } from '@sepia/test-support/cluster/private-cluster';
import { MIB } from '@sepia/test-support/cluster/pull-through';
import { until } from '@sepia/test-support/until';
import t from 'tap';

/** Long enough for a pull with it on a busy machine. */
const LIFE_S = 10;

t.test('an opaque token opens nothing after its end, whichever origin and door is asked', async (t) => {
  await using here = await PrivateCluster.start(t.testdir(), {
    auth: { ...USERS, expiresInSeconds: LIFE_S } as typeof USERS,
  });
  const doors = [...here.cluster.proxyUrls, here.agentUrl(0), here.agentUrl(1)];
  const pulled = await Promise.all(
    Array.from({ length: 4 }, async (_, at) => {
      const image = here.image(`alice/app-${at}`, MIB);
      const { authorization = '', status } = await askAs(ALICE, image.manifestUrl(doors[at % doors.length]));
      t.equal(status, 200, 'the token is good');
      const other = image.manifestUrl(doors[(at + 1) % doors.length]);
      t.equal((await ask(other, { authorization })).status, 200, 'at another door as well');
      return { image, authorization };
    }),
  );
  for (const { image, authorization } of pulled)
    for (const door of doors) {
      const url = image.manifestUrl(door);
      await until(
        async () => (await ask(url, { authorization })).status === 401,
        `${url} is refused`,
        (LIFE_S + 60) * 1_000,
      );
    }
});
