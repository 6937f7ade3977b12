import { Constellation } from '@sepia/test-support/cluster/constellation';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { request } from 'undici';

t.test('two nodes with one id say so, each of the other', async (t) => {
  await using cluster = await Constellation.start(t.testdir(), {
    origins: 1,
    proxies: 1,
    agents: 2,
    agent: { id: 'node' },
  });
  const [one, other] = cluster.agents;
  const ready = async (adminUrl: string): Promise<string> => {
    const answer = await request(`${adminUrl}/readyz`);
    return await answer.body.text();
  };
  const warning = /^warning: twin: another process has the id node as well \(it says that it is at (\S+)\)/m;
  const twinOf = async (adminUrl: string): Promise<string | undefined> =>
    warning.exec(await ready(adminUrl))?.[1];
  t.equal(await until(async () => await twinOf(one!.adminUrl), 'the one knows'), other!.peers[0]);
  t.equal(await until(async () => await twinOf(other!.adminUrl), 'the other knows'), one!.peers[0]);
});
