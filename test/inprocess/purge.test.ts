import { call } from '@sepia/test-support/clients/registry-calls';
import {
  pullImage,
  pullUntilGiven,
  pushUntilTaken,
  randomImage,
} from '@sepia/test-support/clients/registry-client';
import { Constellation } from '@sepia/test-support/cluster/constellation';
import { LogLines } from '@sepia/test-support/log-lines';
import { until } from '@sepia/test-support/until';
import { FakeUpstream, makeImage } from '@sepia/test-support/upstream/fake-upstream';
import t, { type Test } from 'tap';

/** `sepia purge …` as an operator runs it; its output. */
async function purge(cluster: Constellation, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await cluster.sepia('purge', ...args);
  if (code !== 0) throw new Error(`sepia purge: ${stderr}`);
  return stdout;
}

async function statusOf(url: string, path: string): Promise<number> {
  return (await call('GET', `${url}/v2/${path}`)).status;
}

/** Asks every agent until it answers otherwise than before. */
async function nowhere(cluster: Constellation, paths: readonly string[], status?: number): Promise<void> {
  for (const { url } of cluster.agents)
    for (const path of paths)
      await until(async () => {
        const found = await statusOf(url, path);
        return status === undefined ? found !== 200 : found === status;
      }, `${path} at ${url} is gone`);
}

/** Every agent was handed so many commands. */
async function commandsTaken(log: LogLines, count: number): Promise<void> {
  await until(() => log.matching(/^command taken/).length >= count, 'every agent has the command');
}

t.test('pull-through: agents drop tag, manifest and blob, and ask anew', async (t: Test) => {
  const upstream = await FakeUpstream.start();
  t.teardown(() => upstream.stop());
  await using cluster = await Constellation.start(t.testdir(), {
    proxies: 3,
    agents: 2,
    upstreams: [{ name: 'up', url: upstream.url, mode: 'pull-through' }],
    agent: { 'back-to-source': { mode: 'never' } },
  });
  const image = makeImage({ layers: [300_000], seed: 'purge' });
  for (const repository of ['lib/app', 'lib/kept']) {
    upstream.push(repository, image, 'v1');
    for (const { url } of cluster.agents) await pullUntilGiven(url, repository, 'v1');
  }
  const pathsOf = (repository: string): string[] => [
    `${repository}/manifests/v1`,
    `${repository}/manifests/${image.manifest.digest}`,
    `${repository}/blobs/${image.layers[0]!}`,
  ];
  for (const what of ['lib/app:v1', `lib/app@${image.manifest.digest}`, 'lib/app']) {
    await upstream.down();
    t.match(await purge(cluster, what, '--upstream', 'up'), /^purged .*\n$/, 'nobody was missed');
    await nowhere(cluster, pathsOf('lib/app'));
    for (const { url } of cluster.agents)
      for (const path of pathsOf('lib/kept').slice(1)) t.equal(await statusOf(url, path), 200, path);
    await upstream.up();
    const asked = (): number => upstream.log.filter((one) => one.path.includes('lib/app')).length;
    const before = asked();
    for (const { url } of cluster.agents)
      await until(async () => await pullImage(url, 'lib/app', 'v1').catch(() => undefined), 'it is back');
    t.ok(asked() > before, 'the upstream was asked');
  }
});

t.test('mode none: an agent that is left alone serves nothing that was purged', async (t: Test) => {
  const log = new LogLines();
  await using cluster = await Constellation.start(t.testdir(), { agents: 2, log: log.logger });
  const image = randomImage([200_000]);
  for (const repository of ['demo/tag', 'demo/whole', 'demo/kept']) {
    await pushUntilTaken(() => cluster.proxyUrls[0]!, repository, 'v1', image);
    for (const { url } of cluster.agents) await pullUntilGiven(url, repository, 'v1');
  }
  await t.rejects(purge(cluster, 'demo/whole'), /--yes/);
  t.match(await purge(cluster, 'demo/tag:v1', '--yes'), /^deleted .*1 tags/);
  await commandsTaken(log, 2);
  await cluster.stopMember('tracker-2');
  t.match(await cluster.sepia('purge', 'demo/whole', '--yes'), {
    code: 1,
    stdout: /^deleted .*1 tags.*\ntracker-2 did not take it/,
  });
  await commandsTaken(log, 4);
  const whole = ['manifests/v1', `manifests/${image.manifestDigest}`, `blobs/${image.layers[0]!.digest}`];
  const paths = whole.map((path) => `demo/whole/${path}`);
  await nowhere(cluster, paths, 404);
  for (const id of cluster.configs.keys()) if (!id.startsWith('agent-')) await cluster.stopMember(id);
  await nowhere(cluster, ['demo/tag/manifests/v1', ...paths]);
  for (const { url } of cluster.agents)
    for (const path of whole) t.equal(await statusOf(url, `demo/kept/${path}`), 200, path);
});
