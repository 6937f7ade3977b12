import { writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { AGENT_CONFIG, createAgent } from '@sepia/agent';
import { isCoded } from '@sepia/base/errors';
import { createOrigin, ORIGIN_CONFIG } from '@sepia/origin';
import { createProxy, PROXY_CONFIG } from '@sepia/proxy';
import { ociError, watchedGet } from '@sepia/test-support/clients/watched-get';
import { Constellation } from '@sepia/test-support/cluster/constellation';
import { LogLines } from '@sepia/test-support/log-lines';
import { until } from '@sepia/test-support/until';
import { createTracker, TRACKER_CONFIG } from '@sepia/tracker';
import t from 'tap';

const { logger: log } = new LogLines();

const STARTS: Readonly<Record<string, (config: unknown) => Promise<{ stop(): Promise<void> }>>> = {
  origin: (config) => createOrigin(ORIGIN_CONFIG.parse(config), { log }),
  tracker: (config) => createTracker(TRACKER_CONFIG.parse(config), { log }),
  proxy: (config) => createProxy(PROXY_CONFIG.parse(config), { log }),
  agent: (config) => createAgent(AGENT_CONFIG.parse(config), { log }),
};

async function refusal(role: string, config: unknown): Promise<string> {
  try {
    await (await STARTS[role]!(config)).stop();
  } catch (error) {
    if (!isCoded(error)) throw error;
    return `${error.code}: ${error.message}`;
  }
  throw new Error(`the ${role} started`);
}

t.test('a taken port is named with its key, at every role, and nothing stays behind', async (t) => {
  await using cluster = await Constellation.start(t.testdir(), {
    origins: 1,
    trackers: 1,
    proxies: 1,
    agents: 1,
  });
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const taken = `127.0.0.1:${(server.address() as { port: number }).port}`;
  const cases: [string, Record<string, unknown>, RegExp][] = [
    ['origin', { listen: taken }, /^START_FAILED: listen: .* is taken/],
    ['origin', { 'peer-listen': [taken] }, /^START_FAILED: peer-listen: .* is taken/],
    ['origin', { 'admin-listen': taken }, /^START_FAILED: admin-listen: .* is taken/],
    ['tracker', { listen: taken }, /^START_FAILED: listen: .* is taken/],
    ['proxy', { listeners: [{ listen: taken }] }, /^START_FAILED: listeners\.0\.listen: .* is taken/],
    ['agent', { 'peer-listen': [taken] }, /^START_FAILED: peer-listen: .* is taken/],
    ['agent', { 'admin-listen': taken }, /^START_FAILED: admin-listen: .* is taken/],
  ];
  for (const [role, wrong, expected] of cases) {
    const id = `${role}-1`;
    await cluster.stopMember(id);
    t.match(await refusal(role, { ...cluster.configs.get(id), ...wrong }), expected, role);
    await cluster.startMember(id);
  }
  await new Promise((resolve) => server.close(resolve));
});

t.test('an id that is not in the cluster document: named, with what to do', async (t) => {
  await using cluster = await Constellation.start(t.testdir(), {
    origins: 1,
    trackers: 1,
    proxies: 1,
    agents: 0,
  });
  for (const role of ['origin', 'tracker', 'proxy']) {
    const config = {
      ...cluster.configs.get(`${role}-1`),
      id: `${role}-9`,
      data: cluster.dataOf(`${role}-9`),
    };
    t.match(await refusal(role, config), /^CONFIG_INVALID: id: "\w+-9" .*(add|correct)/, role);
  }
});

t.test('an upstream that cannot be reached: the start goes on, a pull says so', async (t) => {
  const lines = new LogLines();
  await using cluster = await Constellation.start(t.testdir(), {
    trackers: 1,
    proxies: 1,
    agents: 1,
    log: lines.logger,
    origin: { deadlines: { 'fetch-progress': '1s', 'first-byte': '1s' } },
    upstreams: [{ name: 'up', url: 'http://127.0.0.1:1', mode: 'pull-through' }],
  });
  for (const path of ['manifests/v1', `blobs/sha256:${'0'.repeat(64)}`]) {
    const answer = await watchedGet(`${cluster.agents[0]!.url}/v2/team/app/${path}`);
    t.equal(answer.status, 503, path);
    t.equal(ociError(answer).code, 'UNAVAILABLE');
    t.match(ociError(answer).message, /127\.0\.0\.1:1/, 'the upstream is named');
    t.match(ociError(answer).message, /refused/);
  }
});

t.test('a proxy with another cluster key: 503, and both answer and log name the key', async (t) => {
  const lines = new LogLines();
  await using cluster = await Constellation.start(t.testdir(), {
    trackers: 1,
    proxies: 1,
    agents: 0,
    log: lines.logger,
  });
  await cluster.stopMember('proxy-1');
  await writeFile(`${cluster.dir}/other-key`, 'ab'.repeat(32), { mode: 0o600 });
  const stranger = await createProxy(
    PROXY_CONFIG.parse({
      ...cluster.configs.get('proxy-1'),
      'cluster-key-file': `${cluster.dir}/other-key`,
    }),
    { log: lines.logger },
  );
  try {
    const answer = await watchedGet(`${stranger.url}/v2/demo/app/manifests/v1`);
    t.equal(answer.status, 503, answer.bytes.toString('utf8'));
    await until(
      () => answer.bytes.includes('cluster-key-file') && lines.has(/cluster-key-file/),
      'somebody names cluster-key-file',
    );
  } finally {
    await stranger.stop();
  }
});
