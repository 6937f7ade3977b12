import { randomBytes } from 'node:crypto';
import { cpSync, mkdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { AGENT_CONFIG, createAgent, loadAgentConfig } from '@sepia/agent';
import { isCoded } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import { Constellation } from '@sepia/test-support/cluster/constellation';
import t from 'tap';
import { request } from 'undici';

const log = silentLogger();

/** Files of a cluster with one tracker that does not run, and the agent's config beside them. */
function makeFiles(dir: string): Record<string, unknown> {
  writeFileSync(join(dir, 'key'), randomBytes(32).toString('hex'), { mode: 0o600 });
  const members = [{ id: 'tracker-1', role: 'tracker', urls: ['http://127.0.0.1:1'] }];
  writeFileSync(
    join(dir, 'cluster.yaml'),
    JSON.stringify({ version: 1, members, upstreams: [{ name: 'local', mode: 'none' }] }),
  );
  return {
    id: 'agent-1',
    data: 'data',
    'cluster-key-file': 'key',
    'cluster-document': 'cluster.yaml',
    'admin-listen': '127.0.0.1:0',
    listeners: [{ listen: '127.0.0.1:0' }],
    'peer-listen': ['127.0.0.1:0'],
  };
}

async function refusal(dir: string, config: unknown): Promise<{ code: string; message: string }> {
  writeFileSync(join(dir, 'agent.yaml'), JSON.stringify(config));
  try {
    const agent = await createAgent(loadAgentConfig(join(dir, 'agent.yaml')), { log });
    await agent.stop();
  } catch (error) {
    if (!isCoded(error)) throw error;
    return { code: error.code, message: error.message };
  }
  throw new Error('the start was not refused');
}

t.test('a wrong key or value stops the start and is named', async (t) => {
  const dir = t.testdir();
  const good = makeFiles(dir);
  const cases: [string, unknown, RegExp][] = [
    ['unknown key', { ...good, colour: 'red' }, /agent\.yaml: unknown key colour/],
    ['unknown nested key', { ...good, cache: { budgett: '1GiB' } }, /unknown key cache\.budgett/],
    [
      'bad unit',
      { ...good, 'back-to-source': { after: '5 parsecs' } },
      /back-to-source\.after: "5 parsecs" is not a duration/,
    ],
    ['bad size', { ...good, cache: { budget: 'much' } }, /cache\.budget: "much" is not a size/],
    ['impossible pair', { ...good, cache: { high: 0.5, low: 0.9 } }, /cache\.low: low must be below high/],
    ['bad address', { ...good, 'peer-listen': ['17001'] }, /peer-listen\.0: "17001" is not host:port/],
    ['missing key', { ...good, data: undefined }, /data: is missing/],
    [
      'unknown upstream',
      { ...good, listeners: [{ listen: '127.0.0.1:0', 'default-upstream': 'nope' }] },
      /listeners\.0\.default-upstream: no upstream "nope"/,
    ],
    [
      'no key file',
      { ...good, 'cluster-key-file': 'nowhere' },
      /cluster-key-file: .* cannot be read \(ENOENT\); make one/,
    ],
    ['no document', { ...good, 'cluster-document': 'nowhere' }, /cluster-document: .* cannot be read/],
  ];
  for (const [title, config, expected] of cases) {
    const { code, message } = await refusal(dir, config);
    t.equal(code, 'CONFIG_INVALID', title);
    t.match(message, expected, title);
    t.notMatch(message, /\n/, 'one line');
  }
});

t.test('a port that is taken is named with its key', async (t) => {
  const dir = t.testdir();
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => new Promise((resolve) => server.close(resolve)));
  const { port } = server.address() as { port: number };
  const { code, message } = await refusal(dir, {
    ...makeFiles(dir),
    listeners: [{ listen: `127.0.0.1:${port}` }],
  });
  t.equal(code, 'START_FAILED');
  t.match(message, new RegExp(`listeners\\.0\\.listen: 127\\.0\\.0\\.1:${port} is taken`));
});

t.test('a data folder that is copied, in use or newer is refused', async (t) => {
  const dir = t.testdir();
  const good = makeFiles(dir);
  const absolute = {
    ...good,
    data: join(dir, 'data'),
    'cluster-key-file': join(dir, 'key'),
    'cluster-document': join(dir, 'cluster.yaml'),
  };
  const agent = await createAgent(AGENT_CONFIG.parse(absolute), { log });
  try {
    const inUse = await refusal(dir, good);
    t.equal(inUse.code, 'START_FAILED');
    t.match(inUse.message, /in use by another process/);
  } finally {
    await agent.stop();
  }
  cpSync(join(dir, 'data'), join(dir, 'copy'), { recursive: true });
  const copied = await refusal(dir, { ...good, id: 'agent-2', data: 'copy' });
  t.equal(copied.code, 'START_FAILED');
  t.match(copied.message, /belongs to "agent-1"/);
  mkdirSync(join(dir, 'newer', 'v9'), { recursive: true });
  const newer = await refusal(dir, { ...good, data: 'newer' });
  t.equal(newer.code, 'DISK_FORMAT');
  t.match(newer.message, /format v9/);
});

t.test('a member with another cluster key is told so', async (t) => {
  const dir = t.testdir();
  await using cluster = await Constellation.start(dir, { origins: 1, trackers: 1, proxies: 1, agents: 0 });
  writeFileSync(join(dir, 'other-key'), randomBytes(32).toString('hex'), { mode: 0o600 });
  const config = {
    id: 'agent-x',
    data: join(dir, 'agent-x'),
    'cluster-key-file': join(dir, 'other-key'),
    'cluster-document': join(dir, 'cluster.yaml'),
    'admin-listen': '127.0.0.1:0',
    listeners: [{ listen: '127.0.0.1:0' }],
    'peer-listen': ['127.0.0.1:0'],
  };
  const agent = await createAgent(AGENT_CONFIG.parse(config), { log });
  try {
    const answer = await request(`${agent.url}/v2/a/b/manifests/x`);
    const body = (await answer.body.json()) as { errors: { message: string }[] };
    t.ok(answer.statusCode >= 400);
    t.match(body.errors[0]?.message, /another cluster key/);
    t.ok(cluster.proxyUrls.length > 0);
  } finally {
    await agent.stop();
  }
});

t.test('an upstream that cannot be reached does not stop the start; pulls say so', async (t) => {
  await using cluster = await Constellation.start(t.testdir(), {
    agents: 1,
    upstreams: [{ name: 'gone', url: 'http://127.0.0.1:1', mode: 'pull-through' }],
    agent: { 'back-to-source': { mode: 'never' } },
  });
  const answer = await request(`${cluster.agents[0]!.url}/v2/a/b/manifests/x`);
  const body = (await answer.body.json()) as { errors: { code: string; message: string }[] };
  t.equal(answer.statusCode, 503);
  t.equal(body.errors[0]?.code, 'UNAVAILABLE');
  t.match(body.errors[0]?.message, /upstream|registry/);
});
