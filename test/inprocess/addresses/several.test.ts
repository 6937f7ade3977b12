import { pullImage, pushUntilTaken, randomImage } from '@sepia/test-support/clients/registry-client';
import { Constellation } from '@sepia/test-support/cluster/constellation';
import { until } from '@sepia/test-support/until';
import t from 'tap';

const MIB = 1024 * 1024;

t.test('every member is reached by its second address where the first leads to nobody', async (t) => {
  await using cluster = await Constellation.start(t.testdir(), { deadHost: '127.0.0.2', agents: 3 });
  const image = randomImage([6 * MIB + 5, 2 * MIB, 1_000]);
  const sizeBytes = [image.config, ...image.layers].reduce((sum, { bytes }) => sum + bytes.length, 0);
  for (const [at, proxy] of cluster.proxyUrls.entries())
    await pushUntilTaken(() => proxy, `team/app${at}`, 'v1', image);
  for (const agent of cluster.agents)
    for (const repository of ['team/app0', 'team/app1'])
      t.equal(await pullImage(agent.url, repository, 'v1'), sizeBytes);
  for (const tracker of cluster.trackerUrls)
    await until(async () => {
      const { nodes } = await cluster.ask<{ nodes: unknown[] }>(tracker, '/v1/status');
      return nodes.length === cluster.agents.length;
    }, 'each tracker has the leases of all nodes');
  const { code, stdout, stderr } = await cluster.sepia('ring', 'status');
  t.equal(code, 0, `${stdout}${stderr}`);
});
