import { call } from '@sepia/test-support/clients/registry-calls';
import {
  pullUntilGiven,
  pushImage,
  pushUntilTaken,
  randomImage,
} from '@sepia/test-support/clients/registry-client';
import { Constellation } from '@sepia/test-support/cluster/constellation';
import { until } from '@sepia/test-support/until';
import t, { type Test } from 'tap';

const QUOTA_BYTES = 1_000_000;

interface Report {
  readonly phase: string;
  readonly links: number;
  readonly linkBytes: number;
  readonly blobs: number;
  readonly bytes: number;
  readonly unlinked: number;
  readonly failure?: string;
  readonly repositories: readonly {
    readonly repository: string;
    readonly links: number;
    readonly left?: string;
  }[];
}

/** `sepia gc … --json` as an operator runs it. */
async function gc(cluster: Constellation, ...args: string[]): Promise<{ report?: Report; stderr: string }> {
  const { stdout, stderr } = await cluster.sepia('gc', '--json', ...args);
  return stdout === '' ? { stderr } : { report: JSON.parse(stdout) as Report, stderr };
}

async function bigCluster(t: Test): Promise<Constellation> {
  return await Constellation.start(t.testdir(), {
    origins: 7,
    proxies: 3,
    agents: 0,
    upstreams: [{ name: 'local', mode: 'none', quotas: [{ repositories: ['small/*'], size: QUOTA_BYTES }] }],
  });
}

function inTurn(cluster: Constellation): () => string {
  let at = 0;
  return () => cluster.proxyUrls[at++ % cluster.proxyUrls.length]!;
}

async function storedBytes(cluster: Constellation): Promise<number> {
  const answers = await Promise.all(
    cluster.originUrls.map(async (url) => await cluster.ask<{ storedBytes: number }>(url, '/v1/status')),
  );
  return answers.reduce((sum, { storedBytes: bytes }) => sum + bytes, 0);
}

t.test('what no tag leads to goes, its quota and its bytes are free; all else stays', async (t) => {
  await using cluster = await bigCluster(t);
  const proxy = inTurn(cluster);
  const shared = randomImage([200_000, 300_000]);
  const moved = randomImage([400_000]);
  const gone = randomImage([700_000]);
  await pushUntilTaken(proxy, 'team/app', 'v1', shared);
  await pushUntilTaken(proxy, 'team/twin', 'v1', shared);
  await pushUntilTaken(proxy, 'team/app', 'latest', moved);
  await pushUntilTaken(proxy, 'team/app', 'latest', shared);
  await pushUntilTaken(proxy, 'small/app', 'v1', gone);

  t.equal((await call('DELETE', `${proxy()}/v2/small/app/manifests/${gone.manifestDigest}`)).status, 202);
  t.equal((await call('DELETE', `${proxy()}/v2/team/twin/manifests/${shared.manifestDigest}`)).status, 202);
  await t.rejects(pushUntilTaken(proxy, 'small/app', 'v2', randomImage([700_000])), 'the quota is used up');

  const young = await gc(cluster);
  t.match(
    young.report,
    { phase: 'done', links: 0, blobs: 0 },
    `younger than the grace ${young.report?.failure}`,
  );
  const dry = await gc(cluster, '--grace', '0s', '--dry-run');
  t.match(dry.report, { phase: 'done', blobs: 0 });
  t.ok(dry.report!.links > 0);
  const before = await storedBytes(cluster);
  const { report, stderr } = await gc(cluster, '--grace', '0s');
  t.match(report, { phase: 'done' }, stderr);
  t.same(
    report!.repositories.map((one) => one.repository),
    ['small/app', 'team/twin'],
  );
  t.ok(
    report!.links === dry.report!.links && report!.linkBytes > 1_200_000,
    `${report!.linkBytes} bytes of quotas`,
  );
  t.ok(report!.bytes >= 3 * 700_000, `${report!.bytes} bytes of disks`);
  t.equal(await storedBytes(cluster), before - report!.bytes);

  for (const url of cluster.proxyUrls) {
    await pullUntilGiven(url, 'team/app', 'v1');
    await pullUntilGiven(url, 'team/app', 'latest');
    const layer = gone.layers[0]!.digest;
    t.equal((await call('GET', `${url}/v2/small/app/blobs/${layer}`)).status, 404);
    const back = `manifests/${moved.manifestDigest}`;
    t.equal((await call('GET', `${url}/v2/team/app/${back}`)).status, 200, 'history is kept');
  }
  await pushUntilTaken(proxy, 'small/app', 'v2', gone);
  await pushUntilTaken(proxy, 'team/twin', 'v1', shared);
  for (const url of cluster.proxyUrls) {
    await pullUntilGiven(url, 'small/app', 'v2');
    await pullUntilGiven(url, 'team/twin', 'v1');
  }
  t.match((await gc(cluster, '--grace', '0s')).report, { phase: 'done', links: 0, blobs: 0 });
});

t.test(
  'nothing is taken while an origin is silent; a leader that dies leaves nothing half done',
  async (t) => {
    await using cluster = await bigCluster(t);
    const proxy = inTurn(cluster);
    const kept = randomImage([50_000]);
    await pushUntilTaken(proxy, 'team/app', 'v1', kept);
    for (let index = 0; index < 5; index++) {
      const image = randomImage([20_000]);
      await pushUntilTaken(proxy, `team/r${index}`, 'v1', image);
      await call('DELETE', `${proxy()}/v2/team/r${index}/manifests/${image.manifestDigest}`);
    }
    const [victim = ''] = cluster.ids.filter((id) => id.startsWith('origin'));
    await cluster.stopMember(victim);
    const silent = await gc(cluster, '--grace', '0s');
    t.equal(silent.report, undefined);
    t.match(silent.stderr, new RegExp(`${victim} does not answer`));
    await cluster.startMember(victim);

    const running = gc(cluster, '--grace', '0s');
    await cluster.stopMember(victim);
    await running;
    await cluster.startMember(victim);
    await until(
      async () => (await gc(cluster, '--grace', '0s')).report?.phase === 'done',
      'the fence of the sweep that ended is lifted',
      120_000,
    );
    t.match((await gc(cluster, '--grace', '0s')).report, { phase: 'done', links: 0, blobs: 0 });
    for (const url of cluster.proxyUrls) await pullUntilGiven(url, 'team/app', 'v1');
  },
);

t.test('pushes between sweeps lose nothing that was acknowledged', async (t) => {
  await using cluster = await bigCluster(t);
  const proxy = inTurn(cluster);
  const images = Array.from({ length: 4 }, () => randomImage([30_000, 10_000]));
  let over = false;
  const sweeping = (async () => {
    for (let sweeps = 0; ; sweeps++) {
      if (over && sweeps >= 2) return sweeps;
      await gc(cluster, '--grace', '0s');
    }
  })();
  const tags = new Map<string, string>();
  for (let round = 0; round < 6; round++)
    for (const [index, image] of images.entries()) {
      const repository = `team/r${(index + round) % 2}`;
      const tag = `t${index}`;
      try {
        await pushImage(proxy, repository, tag, image);
        tags.set(`${repository}:${tag}`, image.manifestDigest);
      } catch (error) {
        // Without a grace a push may lose a layer before its manifest comes; it is told so.
        if (!/: status \d+, expected/.test(String(error))) throw error;
      }
    }
  over = true;
  t.ok((await sweeping) >= 2);
  t.ok(tags.size > 0, `${tags.size} tags`);
  for (const name of tags.keys()) {
    const [repository = '', tag = ''] = name.split(':');
    for (const url of cluster.proxyUrls) await pullUntilGiven(url, repository, tag);
  }
});
