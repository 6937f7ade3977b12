import { pullUntilGiven, pushUntilTaken, randomImage } from '@sepia/test-support/clients/registry-client';
import { Constellation } from '@sepia/test-support/cluster/constellation';
import { noIpv6 } from '@sepia/test-support/ipv6';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { request } from 'undici';

const MIB = 1024 * 1024;
const HOST = '[::1]';

t.test('a cluster that has IPv6 addresses alone', { skip: noIpv6() }, async (t) => {
  await using cluster = await Constellation.start(t.testdir(), { host: HOST, agents: 3 });
  const image = randomImage([6 * MIB + 5, 2 * MIB, 1_000]);
  const sizeBytes = [image.config, ...image.layers].reduce((sum, { bytes }) => sum + bytes.length, 0);
  const [proxy] = cluster.proxyUrls;
  t.match(proxy, /^http:\/\/\[::1\]:\d+$/);
  await pushUntilTaken(() => proxy!, 'team/app', 'v1', image);
  const ns = new URL(proxy!).host;
  for (const agent of cluster.agents) {
    t.ok(agent.url.startsWith(`http://${HOST}:`), agent.url);
    t.ok(
      agent.peers.every((one) => one.startsWith(`${HOST}:`)),
      String(agent.peers),
    );
    t.equal(await pullUntilGiven(agent.url, 'team/app', 'v1'), sizeBytes);
    t.equal(await pullUntilGiven(agent.url, 'team/app', 'v1', ns), sizeBytes, 'by the address of a proxy');
    t.equal(await pullUntilGiven(agent.url, 'team/app', 'v1', `[0:0::1]:${new URL(proxy!).port}`), sizeBytes);
    const elsewhere = await request(
      `${agent.url}/v2/team/app/manifests/v1?ns=${encodeURIComponent('[::2]:1')}`,
    );
    t.equal(elsewhere.statusCode, 404, 'of another address nobody knows');
    await elsewhere.body.dump();
  }
  await until(async () => {
    const { nodes } = await cluster.ask<{ nodes: { addresses: string[] }[] }>(
      cluster.trackerUrls[0]!,
      '/v1/status',
    );
    const told = nodes.flatMap(({ addresses }) => addresses).sort();
    return String(told) === String(cluster.agents.flatMap(({ peers }) => peers).sort());
  }, 'the tracker tells of all nodes by their addresses');
});
